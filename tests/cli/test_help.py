"""`perennial --help` answers at once: it imports nothing that takes long."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = [
    *("pydantic", "tensorflow", "mlflow", "kfp", "numpy", "sqlalchemy", "rich.console"),
    *("schemas.project", "schemas.records", "perennial.ledger", "perennial.project"),
]


@pytest.mark.parametrize("library", HEAVY)
def test_the_command_line_alone_does_not_import(library):
    program = f"import sys, perennial.cli.main; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
