"""Steps of an answer that wait for models, for threads and for the event loop alike.

What answers is written once, as a generator that yields each call of a model and gets its outputs.
A thread runs it and waits; the event loop runs it and does something else meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from serving.features import Array
from serving.runtime import LoadedModel, Predictions

Result = TypeVar("Result")


@dataclass(frozen=True)
class ModelCall:
    """Asks a model for some outputs of rows: one array [n, ...] for each feature."""

    model: LoadedModel
    arrays: Mapping[str, Array]
    names: Sequence[str]


Steps = Generator[ModelCall, Predictions, Result]
"""Yields calls, gets their outputs or what they raise, and returns a result."""


def run_steps(steps: Steps[Result]) -> Result:
    """Runs steps to their end; this thread waits for the models."""
    try:
        call = next(steps)
        while True:
            try:
                outputs = call.model.predict(call.arrays, call.names)
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(outputs)
    except StopIteration as end:
        result: Result = end.value
        return result


async def await_steps(steps: Steps[Result]) -> Result:
    """Runs steps to their end; no thread waits for the models."""
    try:
        call = next(steps)
        while True:
            try:
                outputs = await call.model.predict_soon(call.arrays, call.names)
            except Exception as error:
                call = steps.throw(error)
            else:
                call = steps.send(outputs)
    except StopIteration as end:
        result: Result = end.value
        return result
