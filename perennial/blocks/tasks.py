"""Tasks: what is read off the latent vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perennial.blocks.arguments import checked_count, checked_name

_DEFAULT = "prediction"


@dataclass(frozen=True)
class Head:
    """The last layer of one task: its name in project.yaml, its width and its activation."""

    name: str
    units: int
    activation: Literal["sigmoid", "softmax", "linear"]


def binary(name: str = _DEFAULT) -> Head:
    """Makes the head of a task that is answered by yes or no.

    Args:
        name: Name of the task in project.yaml (`model.tasks`).

    Returns:
        A head that gives the probability of 1, float32 [batch, 1].

    Raises:
        ValueError: The name is no text, or has a slash.
    """
    return Head(checked_name("binary", name), 1, "sigmoid")


def multi_class(classes: int, name: str = _DEFAULT) -> Head:
    """Makes the head of a task that asks for one of several classes.

    Args:
        classes: How many classes there are; the label is their number from 0 on.
        name: Name of the task in project.yaml (`model.tasks`).

    Returns:
        A head that gives the probability of each class, float32 [batch, classes]; they sum to 1.

    Raises:
        ValueError: There are less than two classes, or the name is no text or has a slash.
    """
    checked_count("multi_class", "classes", classes, least=2)
    return Head(checked_name("multi_class", name), classes, "softmax")


def regression(name: str = _DEFAULT) -> Head:
    """Makes the head of a task that asks for a number.

    Args:
        name: Name of the task in project.yaml (`model.tasks`).

    Returns:
        A head that gives the value, float32 [batch, 1], in the label's unit.

    Raises:
        ValueError: The name is no text, or has a slash.
    """
    return Head(checked_name("regression", name), 1, "linear")
