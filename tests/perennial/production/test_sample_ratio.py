"""The check of the split, looked at all the time."""

from __future__ import annotations

import numpy as np
import pytest

from perennial.production.sample_ratio import ArmCounts, check_sample_ratio

SHARES = {"champion": 0.8, "challenger": 0.2}


def first_alarm(share: float, seed: int, alpha: float, keys: int = 20_000) -> int | None:
    """Gives after how many keys an alarm comes when one looks after every 100."""
    challenger = np.random.default_rng(seed).random(keys) < share
    for seen in range(100, keys + 1, 100):
        count = int(challenger[:seen].sum())
        counts = ArmCounts({"champion": seen - count, "challenger": count}, SHARES)
        if not check_sample_ratio([counts], alpha).fits:
            return seen
    return None


def test_looking_all_the_time_gives_no_more_false_alarms_than_stated() -> None:
    alarms = sum(first_alarm(0.2, seed, alpha=0.05) is not None for seed in range(200))
    assert alarms <= 17, "of 200 at 5%: at most 10 are to be expected"


def test_a_split_that_is_off_is_found() -> None:
    alarms = [first_alarm(0.24, seed, alpha=0.001) for seed in range(20)]
    assert all(seen is not None and seen <= 10_000 for seen in alarms)


def test_evidence_of_periods_with_different_shares_adds_up() -> None:
    off = ArmCounts({"champion": 760, "challenger": 240}, SHARES)
    half = ArmCounts({"champion": 455, "challenger": 545}, {"champion": 0.5, "challenger": 0.5})
    one, other = check_sample_ratio([off]).p_value, check_sample_ratio([half]).p_value
    both = check_sample_ratio([off, half])
    assert both.p_value == pytest.approx(one * other)
    assert both.expected == {"champion": 1300, "challenger": 700}
    assert "champion 1215 (intended 1300)" in both.describe()


def test_keys_where_none_can_be_are_an_alarm() -> None:
    shares = {"champion": 1.0, "challenger": 0.0}
    assert check_sample_ratio([ArmCounts({"champion": 10}, shares)]).fits
    assert not check_sample_ratio([ArmCounts({"champion": 9, "challenger": 1}, shares)]).fits
