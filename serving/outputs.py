"""Lists the outputs of a model and their forms, by its contract.

Pure: no TensorFlow, no KServe.
"""

from __future__ import annotations

from dataclasses import dataclass

from perennial.tasks import LATENT, PARTS, Part, output_name
from schemas.records import ModelContract, ServedTask

_DTYPES: dict[Part, str] = {"class": "int64", "probabilities": "float32", "value": "float32"}


@dataclass(frozen=True)
class Output:
    """One output: its dtype, and its numbers for an instance (None: one, outside a list)."""

    name: str
    dtype: str
    width: int | None = None

    @property
    def shape_of_one(self) -> tuple[int, ...]:
        """Its shape in the answer to one instance."""
        return (1,) if self.width is None else (1, self.width)

    def describe(self) -> str:
        """Its form in words: `probabilities` float32 [n, 3]."""
        return f"`{self.name}` {self.dtype} [n{'' if self.width is None else f', {self.width}'}]"


def task_outputs(contract: ModelContract, task: ServedTask) -> dict[Part, Output]:
    """Gives a task's outputs, by what they say of it."""
    names = [each.name for each in contract.tasks]
    return {
        part: Output(
            output_name(names, task.name, part),
            _DTYPES[part],
            task.classes if part == "probabilities" else None,
        )
        for part in PARTS[task.kind]
    }


def prediction_outputs(contract: ModelContract) -> list[Output]:
    """Lists the outputs of all tasks: an answer holds them when a request names none."""
    return [output for task in contract.tasks for output in task_outputs(contract, task).values()]


def all_outputs(contract: ModelContract) -> list[Output]:
    """Lists the outputs of all tasks, and the latent vector where the model gives one."""
    latent = [] if contract.latent is None else [Output(LATENT, "float32", contract.latent)]
    return [*prediction_outputs(contract), *latent]
