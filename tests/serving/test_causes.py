"""What is shown of an error that TensorFlow raises while a model computes."""

from __future__ import annotations

import pytest

from serving.causes import tensorflow_cause

NODE = "Graph execution error:\n\nDetected at node ParseExample defined at (most recent call last):\n"
WHAT = "Feature: age (data type: float) is required but could not be found."


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"{NODE}<stack traces unavailable>\n{WHAT}\n\t [[{{{{node ParseExample}}}}]] [Op:__inference_1]", WHAT),
        ("slice index 9 of dimension 0 out of bounds.", "slice index 9 of dimension 0 out of bounds."),
        ("Graph execution error:", "Graph execution error:"),
        ("", "no reason"),
        ("x" * 999, "x" * 200),
    ],
)
def test_the_line_that_says_what_was_wrong(message: str, shown: str) -> None:
    assert tensorflow_cause(message) == shown
