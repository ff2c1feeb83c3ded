"""Statistics that are counted in columns are those that TensorFlow Data Validation gives."""

from __future__ import annotations

from tests.components.compute_statistics import oracle_jobs
from tests.components.forked import forked


def test_statistics_are_those_of_tfdv(tmp_path):
    forked(oracle_jobs.check_statistics_are_those_of_tfdv, tmp_path)
