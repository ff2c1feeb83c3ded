"""One value has one meaning, wherever it comes in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forked import forked
from tests.perennial.readers.value_cases import CASES, table
from tests.perennial.readers.value_jobs import read_all

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    return forked(read_all, tmp_path_factory.mktemp("values"))


@pytest.mark.parametrize("number", range(len(CASES)))
def test_value_by_every_source(outcomes, number):
    case = CASES[number]
    by_source = {source: found for (of, source), found in outcomes.items() if of == number}
    assert set(case.sources) <= set(by_source)
    assert by_source == dict.fromkeys(by_source, case.expected), case


def test_documentation_has_the_list():
    assert table() in (ROOT / "docs" / "data.md").read_text()
