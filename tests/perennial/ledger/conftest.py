"""A ledger that nobody has used."""

from __future__ import annotations

import pytest

from perennial.ledger.events import Ledger


@pytest.fixture
def ledger(ledger_url):
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()
