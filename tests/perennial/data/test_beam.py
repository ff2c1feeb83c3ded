"""Beam with less work gives what Beam gives."""

from __future__ import annotations

from tests.forked import forked
from tests.perennial.data.beam_jobs import change_options, number_by_key, write_bundles


def test_functions_with_states_and_defaults_are_called_with_them():
    found = forked(number_by_key, [("a", "x"), ("b", "y"), ("a", "z")])
    assert sorted(number for key, _, number in found if key == "a") == [1, 2, 101, 102]
    assert [number for key, _, number in found if key == "b"] == [1, 101]


def test_a_bundle_that_is_tried_again_counts_once(tmp_path):
    told, left = forked(write_bundles, tmp_path)
    assert told == [("lines", b"again\n")] and left == [told[0][1]]


def test_views_of_options_share_their_values_and_nothing_with_other_options():
    assert forked(change_options) == ("in_memory", [True, False], True)
