"""What begins a run, and how that is told to people."""

from __future__ import annotations

from typing import Literal

Trigger = Literal["hand", "ci", "schedule", "landing", "labels", "drift", "metrics"]
TRIGGERS: dict[Trigger, str] = {
    "hand": "a person",
    "ci": "continuous integration",
    "schedule": "a schedule",
    "landing": "new data",
    "labels": "enough new labels",
    "drift": "drift of the data",
    "metrics": "worse metrics",
}
