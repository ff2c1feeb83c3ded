"""What `perennial.blocks` exports.

Everything that it names, and Keras only once a layer is asked for.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from perennial import blocks
from tests.forked import forked
from tests.perennial.blocks.jobs import exported


def test_every_name_is_exported_with_its_description():
    assert forked(exported) == {name: True for name in blocks.__all__}


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'mpl'"):
        blocks.mpl  # noqa: B018


def test_importing_the_blocks_does_not_import_keras():
    code = (
        "import sys; from perennial import blocks; blocks.binary(); sys.exit('keras' in "
        "sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
