"""The split of an example.

By its key alone, in the shares of the settings, the same everywhere and for ever.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from perennial.data.examples import split_of
from perennial.project import load_project
from perennial.schema.environments import serving_features
from schemas.project import SPLITS, SplitSettings
from tests.perennial.folders import DIGITS

SHARES = st.tuples(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(0.01, 10))
KEPT = {
    "digit-0000": "train",
    "digit-0004": "eval",
    "digit-0005": "train",
    "ключ": "train",
    "": "test",
}


def _settings(shares) -> SplitSettings:
    train, held_out, test = (share / sum(shares) for share in shares)
    return SplitSettings(train=train, eval=held_out, test=test)


@given(st.text(), SHARES)
def test_every_key_has_one_split(key, shares):
    settings = _settings(shares)
    assert split_of(key, settings) in SPLITS
    assert split_of(key, settings) == split_of(key, settings)


@given(st.text(), SHARES, st.floats(0.01, 0.99))
def test_a_larger_train_share_only_adds_to_it(key, shares, more):
    settings = _settings(shares)
    wider = SplitSettings(
        train=settings.train + settings.eval * more,
        eval=settings.eval * (1 - more),
        test=1 - settings.train - settings.eval,
    )
    if split_of(key, settings) == "train":
        assert split_of(key, wider) == "train"


def test_shares_are_as_set():
    counts = Counter(
        split_of(f"key-{i}", SplitSettings(train=0.5, eval=0.3, test=0.2)) for i in range(20_000)
    )
    # Five standard deviations of a binomial share of 20,000.
    assert all(
        abs(counts[s] / 20_000 - share) < 0.018
        for s, share in zip(SPLITS, (0.5, 0.3, 0.2), strict=True)
    )


def test_splits_are_the_same_in_every_release():
    """An example that changed its split would leak from training into the comparison."""
    assert {key: split_of(key, SplitSettings()) for key in KEPT} == KEPT


def test_clients_send_what_is_in_the_serving_environment():
    assert serving_features(load_project(DIGITS).schema) == ["image"]
