"""Properties of early stopping and of the choice of the candidate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.evaluate_model.step import choose_candidate
from components.train_model.step import should_stop
from schemas.records import Epoch, Hyperparameters, Instance, Training

LOSSES = st.lists(st.floats(0, 10), max_size=20)
PATIENCE = st.integers(1, 6)


@given(LOSSES, PATIENCE)
def test_stops_exactly_when_the_last_epochs_did_not_beat_those_before(losses, patience):
    expected = len(losses) > patience and all(loss >= min(losses[:-patience]) for loss in losses[-patience:])
    assert should_stop(losses, patience) == expected


@given(LOSSES, PATIENCE, st.floats(0.1, 5))
def test_never_stops_just_after_the_lowest_loss(losses, patience, less):
    assert not should_stop([*losses, min(losses, default=10) - less], patience)


@given(LOSSES, PATIENCE)
def test_more_patience_never_stops_earlier(losses, patience):
    stops = [
        next((n for n in range(len(losses) + 1) if should_stop(losses[:n], p)), 99) for p in (patience, patience + 1)
    ]
    assert stops[0] <= stops[1]


def _training(number, losses):
    epochs = [Epoch(train_loss=1, eval_loss=loss, eval_accuracy=0) for loss in losses]
    return Training(
        instance=Instance(name=f"instance-{number}", seed=number),
        strategy="one_device",
        replicas=1,
        parameters=1,
        train_examples=1,
        eval_examples=1,
        hyperparameters=Hyperparameters(learning_rate=1, batch_size=1),
        epochs=epochs,
        best_epoch=min(range(len(losses)), key=losses.__getitem__),
        digest=str(number),
    )


@given(st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=4), min_size=1, max_size=4))
def test_the_candidate_has_the_lowest_eval_loss(curves):
    chosen = choose_candidate([_training(number, losses) for number, losses in enumerate(curves)])
    assert chosen.best.eval_loss == min(loss for losses in curves for loss in losses)
