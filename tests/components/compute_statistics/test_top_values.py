"""Statistics that are counted in columns are those that TensorFlow Data Validation gives."""

from __future__ import annotations

from tests.components.compute_statistics import oracle_jobs
from tests.forked import forked


def test_statistics_are_those_of_tfdv(tmp_path):
    forked(oracle_jobs.check_statistics_are_those_of_tfdv, tmp_path)


def test_a_total_of_many_different_texts_is_handed_on_as_large_as_it_is():
    """Its parts once carried all of it each: 2 GB for a million and a half identifiers."""
    held, handed_on = forked(oracle_jobs.weigh_total, 200_000)
    assert handed_on < 1.1 * held
