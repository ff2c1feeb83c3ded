"""The label queue: which logged examples are worth a label, each with the chance that it had.

Examples are drawn, not ranked. The chance of each is higher where its label tells more, and never
zero, so the same labels train the next model *and* give an unbiased estimate of a live metric:
what is drawn with chance p counts 1 / p times (Horvitz and Thompson 1952, "A Generalization of
Sampling Without Replacement From a Finite Universe"; that labels chosen by a model bias what is
measured on them, and that weights mend it: Farquhar, Gal and Rainforth 2021, "On Statistical Bias
In Active Learning").

Near-duplicates are worth one label, not ten: the draw is by the local pivotal method (Grafström,
Lundström and Schelin 2012, "Spatially Balanced Sampling through the Pivotal Method", LPM2), which
lets the examples that lie next to each other compete, and keeps each one's chance exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perennial.evaluation.prediction_table import Array

_EPSILON = 1e-9  # a chance nearer to 0 or 1 than that is decided
_FIRST_NEIGHBOURS = 8  # asked of the tree at once; four times as many where all of them are decided


@dataclass(frozen=True)
class QueueShares:
    """Shares of a queue's labels; together at most 1, the rest is uncertainty's.

    Attributes:
        random: Share that any example may have, whatever the models say of it: each one's chance
            is at least this share of labels / examples, which bounds its weight.
        disagreement: Share for the examples on which champion and challenger differ: no others
            tell the two apart.
    """

    random: float = 0.2
    disagreement: float = 0.5


def measure_uncertainty(probabilities: Array) -> Array:
    """Measures how unsure each answer is: 1 less the margin of the first class to the second, [n].

    Args:
        probabilities: Of the classes, float [n, classes]; of a binary task both, [n, 2].
    """
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities))
    second, first = np.partition(probabilities, -2, axis=1)[:, -2:].T
    return np.asarray(1 - (first - second))


def measure_disagreement(one: Array, other: Array) -> Array:
    """Measures how far two models' answers to the same examples lie apart, in [0, 1], [n].

    Probabilities [n, classes]: their total variation distance. Values [n] of a regression: their
    distance as a share of the largest one.
    """
    apart = np.abs(one - other)
    if apart.ndim == 2:
        return np.asarray(apart.sum(axis=1) / 2)
    largest = float(apart.max(initial=0.0))
    return np.asarray(apart / largest if largest > 0 else apart)


def give_chances(
    count: int, uncertainty: Array, disagreement: Array | None, shares: QueueShares
) -> Array:
    """Gives each example its chance of being drawn, in (0, 1]; they sum to `count`.

    A chance that would exceed 1 is 1, and what is left over raises the others in proportion.

    Args:
        count: How many labels are asked for; as many as there are examples, or more: all of them.
        uncertainty: Of each example, not negative, [n].
        disagreement: Of each example, not negative, [n]; None: there is no challenger.
        shares: How they are shared out.
    """
    examples = len(uncertainty)
    if count >= examples:
        return np.ones(examples)
    even = np.full(examples, 1 / examples)
    told = 0.0 if disagreement is None else shares.disagreement
    wanted = shares.random * even + (1 - shares.random - told) * _shared_by(uncertainty, even)
    if disagreement is not None:
        wanted = wanted + told * _shared_by(disagreement, _shared_by(uncertainty, even))
    return _scaled(wanted, count)


def draw(chances: Array, places: Array, rng: np.random.Generator) -> Array:
    """Draws examples, each with exactly its chance, spread over the space that they lie in.

    Args:
        chances: Of each example, in [0, 1], [n]; their sum is how many are drawn.
        places: Where each lies, such as its latent vector, [n, d]. Near ones compete.
        rng: Source of chance.

    Returns:
        Row numbers, ascending. Where the sum of the chances is no whole number, one more or less.
    """
    left = np.array(chances, dtype=np.float64)
    left[left < _EPSILON], left[left > 1 - _EPSILON] = 0.0, 1.0
    undecided = _Undecided(places, np.flatnonzero((left > 0) & (left < 1)))
    while len(undecided) > 1:
        one = undecided.pick(rng)
        other = undecided.nearest(one)
        left[one], left[other] = _compete(left[one], left[other], rng)
        for each in (one, other):
            if left[each] < _EPSILON or left[each] > 1 - _EPSILON:
                left[each] = round(left[each])
                undecided.remove(each)
    for last in undecided.rows():
        left[last] = float(rng.random() < left[last])
    return np.flatnonzero(left == 1.0)


class _Undecided:
    """The examples that are still in the draw, and which of them lie next to each other."""

    def __init__(self, places: Array, rows: Array) -> None:
        self._places = np.asarray(places, dtype=np.float64)
        self._is_in = np.zeros(len(places), dtype=bool)
        self._is_in[rows] = True
        self._order = list(map(int, rows))
        self._position = {row: at for at, row in enumerate(self._order)}
        self._plant()

    def __len__(self) -> int:
        return len(self._order)

    def rows(self) -> list[int]:
        """Lists them."""
        return list(self._order)

    def pick(self, rng: np.random.Generator) -> int:
        """Picks one at random."""
        return self._order[int(rng.integers(len(self._order)))]

    def nearest(self, row: int) -> int:
        """Gives the one that lies nearest to another."""
        near = _FIRST_NEIGHBOURS
        while True:
            near = min(near, len(self._planted))
            _, positions = self._tree.query(self._places[row], k=near)
            for neighbour in self._planted[np.atleast_1d(positions)]:
                if neighbour != row and self._is_in[neighbour]:
                    return int(neighbour)
            near *= 4

    def remove(self, row: int) -> None:
        """Takes one out."""
        self._is_in[row] = False
        at, last = self._position.pop(row), self._order.pop()
        if last != row:
            self._order[at], self._position[last] = last, at
        if 2 * len(self._order) < len(self._planted) and self._order:
            self._plant()

    def _plant(self) -> None:
        from scipy.spatial import cKDTree

        self._planted = np.array(self._order, dtype=np.int64)
        self._tree = cKDTree(self._places[self._planted])


def _compete(one: float, other: float, rng: np.random.Generator) -> tuple[float, float]:
    """Lets one of two examples give its chance to the other; each keeps its own in expectation."""
    both = one + other
    if both < 1:
        return (both, 0.0) if rng.random() < one / both else (0.0, both)
    return (1.0, both - 1) if rng.random() < (1 - other) / (2 - both) else (both - 1, 1.0)


def _shared_by(values: Array, otherwise: Array) -> Array:
    """Gives each value's share of their sum; where all are zero, `otherwise`."""
    total = float(values.sum())
    return values / total if total > 0 else otherwise


def _scaled(wanted: Array, count: int) -> Array:
    """Scales shares to chances of at most 1 that sum to `count`."""
    chances = np.zeros(len(wanted))
    sure = np.zeros(len(wanted), dtype=bool)
    while True:
        free = ~sure
        chances[sure] = 1.0
        chances[free] = wanted[free] * ((count - sure.sum()) / wanted[free].sum())
        above = free & (chances > 1)
        if not above.any():
            return chances
        sure |= above
