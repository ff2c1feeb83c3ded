"""Which features a SavedModel makes nothing of, by the graph that is served."""

from __future__ import annotations

import pytest

from tests.forked import forked
from tests.perennial.export.dependence_jobs import NAMES, unread_of


@pytest.fixture(scope="module")
def unread(tmp_path_factory):
    return forked(unread_of, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("output", "read"),
    [
        ("value", {"used"}),  # not what only its shape is taken of, nor what is only asserted
        ("other", {"ignored"}),  # the same function gives both
        ("examples", {"parsed (cm)"}),  # through tf.Examples and the parser
        ("looped", {"tested"}),
        ("nothing", set()),
    ],
)
def test_features_that_reach_an_output_are_read(unread, output, read):
    assert set(NAMES) - unread[output] == read
