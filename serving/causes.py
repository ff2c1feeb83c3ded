"""What TensorFlow's errors say to a person."""

from __future__ import annotations

# Lines that say where in the graph something failed, before the one that says what.
_PLACES = ("Graph execution error", "Detected at node", "<stack traces", "File ", "[[")
_LONGEST = 200


def tensorflow_cause(message: str) -> str:
    """The line of an error's message that says what was wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_PLACES)]
    return (telling or lines or ["no reason"])[0][:_LONGEST]
