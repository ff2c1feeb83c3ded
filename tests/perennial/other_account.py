"""Code that runs under an account without rights.

The tests may be run by root, who may read everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The modules are imported with the rights of the tests; only then are the rights given up.
_PRELUDE = """
import os, sys
from pathlib import Path
sys.path.insert(0, {root!r})
import fsspec, perennial.cli.main, perennial.spans.landed
import perennial.storage.files, perennial.storage.fingerprints, perennial.runner.warm_wire
folder = {folder!r}
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


def as_nobody(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code that knows `folder`, which the other account may enter."""
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    if os.geteuid() != 0 and not os.access(folder, os.R_OK):
        pytest.skip("cannot open the folder of the test")
    program = _PRELUDE.format(root=str(ROOT), folder=str(folder)) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
