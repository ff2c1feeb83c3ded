"""The sample of test examples that is probed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from perennial.evaluation.prediction_table import KEY, SPAN, Array

if TYPE_CHECKING:
    import pandas as pd


def sample_rows(named: pd.DataFrame, most: int) -> Array:
    """Draws an even sample, as row numbers, int [m], in their order; always the same.

    The examples with the least hashes are chosen, so that a smaller sample is part of a larger one,
    and an example that is added moves out at most one other.

    Args:
        named: The columns `span` and `key`.
        most: Size of the sample, where there are so many examples.
    """
    hashes = [_hash(f"{span}\0{key}") for span, key in zip(named[SPAN], named[KEY], strict=True)]
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    return np.array(sorted(order[:most]), dtype=np.int64)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
