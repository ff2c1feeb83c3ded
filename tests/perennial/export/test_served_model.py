"""A SavedModel that is verified, loaded and called, and what is shown of TensorFlow's errors."""

from __future__ import annotations

import pytest

from perennial.export.served_model import tensorflow_cause
from tests.forked import forked
from tests.perennial.export.served_jobs import answers, messages

NODE = (
    "Graph execution error:\n\nDetected at node ParseExample defined at (most recent call last):\n"
)
WHAT = "Feature: age (data type: float) is required but could not be found."


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            f"{NODE}<stack traces unavailable>\n{WHAT}\n\t [[{{{{node ParseExample}}}}]] "
            "[Op:__inference_1]",
            WHAT,
        ),
        (
            "slice index 9 of dimension 0 out of bounds.",
            "slice index 9 of dimension 0 out of bounds.",
        ),
        ("Graph execution error:", "Graph execution error:"),
        ("", "no reason"),
        ("x" * 999, "x" * 200),
    ],
)
def test_the_line_that_says_what_was_wrong(message: str, shown: str) -> None:
    assert tensorflow_cause(message) == shown


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    return forked(answers, tmp_path_factory.mktemp("served"))


def test_examples_and_columns_are_predicted_alike_in_batches(answered):
    assert answered["examples"]["total"].shape == (2500,)
    assert answered["examples"]["total"].tolist() == [2.0 * n for n in range(2500)]
    assert answered["columns"]["total"].tolist() == answered["examples"]["total"].tolist()


def test_labels_are_flat(answered):
    assert answered["labels"]["total"].tolist() == [3.0 * n for n in range(2500)]


def test_a_model_without_latent_vectors_or_halves_says_so(answered):
    assert answered["latent"] is None and answered["halves"] is None
    assert answered["outputs"] == {"total": "value"} and list(answered["tasks"]) == ["total"]


def test_files_contract_signatures_and_examples_are_checked(tmp_path):
    result = forked(messages, tmp_path)
    assert "IntegrityError" in result["digest"] and "must have the SHA-256 000" in result["digest"]
    assert "IntegrityError" in result["pickle"] and "notes.pkl: a pickle" in result["pickle"]
    assert result["no contract"].startswith(
        "ServingError: version 3 must have assets.extra/contract.json"
    )
    assert "must be a SavedModel that this TensorFlow loads" in result["damaged"]
    assert result["no signature"].startswith(
        "ServingError: version 3 must have the signature label_examples"
    )
    assert result["example"].startswith(
        "TrainingError: version 3 must take every example. Received: "
    )
    assert "number" in result["example"]
