"""Which examples make which batch.

The same whatever the number of devices, and wherever training begins.
"""

import numpy as np
import pytest

from tests.forked import forked
from tests.perennial.training import jobs

PLAN = {"batch_size": 8, "seed": 5}


@pytest.fixture(scope="module")
def epoch(chain):
    """How many steps make an epoch of batches of 8."""
    count, (steps,) = forked(jobs.steps, chain.project, chain.features, [(8, 1)])
    assert steps == -(-count // 8)
    return steps


def test_an_epoch_shows_every_example_once_and_each_in_another_order(chain, epoch):
    ((*batches,),) = forked(jobs.drawn, chain.project, chain.features, PLAN, [{"take": 2 * epoch}])
    first, second = np.concatenate(batches[:epoch]), np.concatenate(batches[epoch:])
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first, axis=0), np.sort(second, axis=0))
    assert np.array_equal(np.unique(first, axis=0), np.unique(second, axis=0))


@pytest.mark.parametrize("balance", ["none", "resample"])
def test_what_follows_a_step_does_not_depend_on_where_training_began(chain, epoch, balance):
    draws = [{"take": epoch + 6}] + [
        {"start": start, "take": 3} for start in (1, epoch - 1, epoch + 3)
    ]
    plan = {**PLAN, "balance": balance}
    whole, *parts = forked(jobs.drawn, chain.project, chain.features, plan, draws)
    for draw, part in zip(draws[1:], parts, strict=True):
        for step, batch in enumerate(part, draw["start"]):
            assert np.array_equal(batch, whole[step]), step


def test_workers_and_replicas_share_each_global_batch(chain):
    shares = [{"pipeline": worker, "pipelines": 2, "replicas": 2, "take": 6} for worker in (0, 1)]
    whole, left, right = forked(
        jobs.drawn, chain.project, chain.features, PLAN, [{"take": 3}, *shares]
    )
    for step, batch in enumerate(whole):
        parts = left[2 * step : 2 * step + 2] + right[2 * step : 2 * step + 2]
        assert [len(part) for part in parts] == [2, 2, 2, 2]
        assert np.array_equal(np.sort(np.concatenate(parts), axis=0), np.sort(batch, axis=0))


def test_a_last_batch_that_leaves_a_replica_without_examples_is_left_out(chain):
    count, (one, shared, exact) = forked(
        jobs.steps, chain.project, chain.features, [(8, 1), (8, 8), (1, 1)]
    )
    assert exact == count and one == -(-count // 8)
    assert shared == count // 8


def test_resampling_shows_all_classes_equally_often(chain):
    shares, shown = forked(jobs.labels_shown, chain.project, chain.features, "resample", 40)
    assert max(shares) > 1.3 * min(shares)
    assert max(shown) < 1.1 * min(shown)
    _, plain = forked(jobs.labels_shown, chain.project, chain.features, "none", 4)
    assert np.allclose(np.array(plain) / sum(plain), shares)
