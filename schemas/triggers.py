"""What begins a run, and how that is told to people."""

from __future__ import annotations

from typing import Literal

Trigger = Literal["hand", "ci", "schedule", "drift"]
TRIGGERS: dict[Trigger, str] = {
    "hand": "a person",
    "ci": "continuous integration",
    "schedule": "a schedule",
    "drift": "drift of the data",
}
