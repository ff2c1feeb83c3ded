"""What a person sees while a run goes on: one line a step."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

if TYPE_CHECKING:
    from perennial.runner.local_run import How

COLOURS = {
    "promoted": "green",
    "kept_champion": "cyan",
    "nothing_new": "cyan",
    "data_rejected": "yellow",
    "failed": "red",
}
# Not a step: importing TensorFlow, Beam and their kin, once in a run.
IMPORTS = "import_libraries"
_MARKS = {"done": "[green]✓[/]", "cached": "[cyan]=[/]", "failed": "[red]✗[/]", "running": "[yellow]…[/]"}


@dataclass
class StepLine:
    """One step on the screen: how its tasks ended, how many still run, and for how long it has worked."""

    ended: Counter[str] = field(default_factory=Counter)
    running: int = 0
    began: float = 0.0
    seconds: float = 0.0
    printed: bool = False

    def mark(self) -> str:
        """The sign in front of the line."""
        if self.running:
            return _MARKS["running"]
        if self.ended["failed"]:
            return _MARKS["failed"]
        return _MARKS["done" if self.ended["done"] else "cached"]

    def note(self) -> str:
        """How many tasks the step had, and how many of them were found in the cache."""
        count, cached = self.ended.total() + self.running, self.ended["cached"]
        parts = [f"{count} tasks"] if count > 1 else []
        parts += ["cached" if cached == count else f"{cached} cached"] if cached else []
        return ", ".join(parts)

    def time(self) -> str:
        """The time that the step took, for the screen."""
        return f"{self.elapsed():.1f} s"

    def elapsed(self) -> float:
        """Seconds during which at least one task of the step was at work."""
        return self.seconds + (time.monotonic() - self.began if self.running else 0.0)


class StepDisplay:
    """Shows the steps of a run: live on a terminal, as finished lines elsewhere. Any thread may call it.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: dict[str, StepLine] = {}
        self._lock = threading.RLock()
        self._live = (
            Live(get_renderable=self._table, console=console, refresh_per_second=8) if console.is_terminal else None
        )

    def __enter__(self) -> StepDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        else:
            for step in list(self._lines):
                self._print(step)

    def started(self, step: str) -> None:
        """A task of this step began."""
        with self._lock:
            line = self._lines.setdefault(step, StepLine())
            if not line.running:
                line.began = time.monotonic()
            line.running += 1

    def finished(self, step: str, how: How, seconds: float) -> None:
        """A task of this step ended."""
        with self._lock:
            line = self._lines[step]
            line.running -= 1
            line.ended[how] += 1
            if not line.running:
                line.seconds += time.monotonic() - line.began

    def ran(self, step: str, seconds: float) -> None:
        """A step ran to its end in this process."""
        with self._lock:
            self._lines[step] = StepLine(Counter(done=1), seconds=seconds)

    def step_ended(self, step: str) -> None:
        """No more tasks of this step will come; nothing is shown of one that had none."""
        with self._lock:
            if step in self._lines:
                self._print(step)

    def imported(self, step: str, seconds: float) -> None:
        """A task of this step waited this much longer for libraries; that gets a line of its own."""
        with self._lock:
            if step in self._lines:
                self._lines[step].began += seconds
            if IMPORTS not in self._lines:
                # Shown before the steps that waited and before those of the same loop that were found in the cache.
                first = dict(list(self._lines.items())[: 1 if len(self._lines) > 1 else 0])
                self._lines = {**first, IMPORTS: StepLine(Counter(done=1)), **self._lines}
            self._lines[IMPORTS].seconds += seconds

    def noted(self, line: str) -> None:
        """Something happened that a person should know of."""
        self._console.print(f"note: {line}", highlight=False, markup=False)

    def seconds(self) -> dict[str, float]:
        """Seconds that each step took, in the order of their first start."""
        return {step: round(line.elapsed(), 2) for step, line in self._lines.items()}

    def _table(self) -> Table:
        with self._lock:
            table = Table.grid(padding=(0, 2))
            for step, line in self._lines.items():
                table.add_row(line.mark(), step, f"[dim]{line.note()}[/]", f"[dim]{line.time()}[/]")
            return table

    def _print(self, step: str) -> None:
        """On what is no terminal: prints the line of a step that has ended, once."""
        line = self._lines[step]
        if not self._live and not line.printed:
            line.printed = True
            self._console.print(f"{line.mark()} {step:<20} {line.note():<20} {line.time():>8}", highlight=False)
