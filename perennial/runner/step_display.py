"""Lines on the screen while a run goes on: one for each step."""

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
    from perennial.runner.local_run import TaskEnd

# Not a step: the imports of TensorFlow, Beam and other libraries, once in a run.
IMPORTS = "import_libraries"
_MARKS = {
    "done": "[green]✓[/]",
    "cached": "[cyan]=[/]",
    "failed": "[red]✗[/]",
    "running": "[yellow]…[/]",
}


@dataclass
class StepLine:
    """One step on the screen: how its tasks ended, how many still run, how long it has worked."""

    ended: Counter[str] = field(default_factory=Counter)
    running: int = 0
    began: float = 0.0
    seconds: float = 0.0
    printed: bool = False

    def mark(self) -> str:
        """Gives the sign in front of the line."""
        if self.running:
            return _MARKS["running"]
        if self.ended["failed"]:
            return _MARKS["failed"]
        return _MARKS["done" if self.ended["done"] else "cached"]

    def note(self) -> str:
        """Counts the tasks of the step, and those of them whose result was kept."""
        count, cached = self.ended.total() + self.running, self.ended["cached"]
        parts = [f"{count} tasks"] if count > 1 else []
        parts += ["cached" if cached == count else f"{cached} cached"] if cached else []
        return ", ".join(parts)

    def time(self) -> str:
        """Writes the time that the step took, for the screen."""
        return f"{self.elapsed():.1f} s"

    def elapsed(self) -> float:
        """Counts the seconds during which at least one task of the step was at work."""
        return self.seconds + (time.monotonic() - self.began if self.running else 0.0)


class StepDisplay:
    """Shows the steps of a run: live on a terminal, as finished lines elsewhere.

    Any thread may call it.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: dict[str, StepLine] = {}
        self._lock = threading.RLock()
        self._live = None
        if console.is_terminal:
            self._live = Live(get_renderable=self._table, console=console, refresh_per_second=8)

    def __enter__(self) -> StepDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        else:
            for step in list(self._lines):
                self._print(step)

    def started(self, step: str) -> None:
        """Shows that a task of this step began."""
        with self._lock:
            line = self._lines.setdefault(step, StepLine())
            if not line.running:
                line.began = time.monotonic()
            line.running += 1

    def finished(self, step: str, end: TaskEnd) -> None:
        """Shows how a task of this step ended."""
        with self._lock:
            line = self._lines[step]
            line.running -= 1
            line.ended[end] += 1
            if not line.running:
                line.seconds += time.monotonic() - line.began

    def ran(self, step: str, seconds: float) -> None:
        """Shows a step that ran to its end in this process."""
        with self._lock:
            self._lines[step] = StepLine(Counter(done=1), seconds=seconds)

    def step_ended(self, step: str) -> None:
        """Prints a step of which no more tasks will come; nothing of one that had no task."""
        with self._lock:
            if step in self._lines:
                self._print(step)

    def imported(self, step: str, seconds: float) -> None:
        """Shows on a line of its own how much longer a task of this step waited for libraries."""
        with self._lock:
            if step in self._lines:
                self._lines[step].began += seconds
            if IMPORTS not in self._lines:
                # Before the steps that waited, and before steps of the same loop that were cached.
                first = dict(list(self._lines.items())[: 1 if len(self._lines) > 1 else 0])
                self._lines = {**first, IMPORTS: StepLine(Counter(done=1)), **self._lines}
            self._lines[IMPORTS].seconds += seconds

    def noted(self, line: str) -> None:
        """Prints a note about something that a person should know."""
        self._console.print(f"note: {line}", highlight=False, markup=False)

    def seconds(self) -> dict[str, float]:
        """Gives the seconds that each step took, in the order of their first start."""
        return {step: round(line.elapsed(), 2) for step, line in self._lines.items()}

    def _table(self) -> Table:
        with self._lock:
            table = Table.grid(padding=(0, 2))
            for step, line in self._lines.items():
                note, seconds = f"[dim]{line.note()}[/]", f"[dim]{line.time()}[/]"
                table.add_row(line.mark(), step, note, seconds)
            return table

    def _print(self, step: str) -> None:
        """Prints the line of a step that has ended, once; a terminal shows it already."""
        line = self._lines[step]
        if not self._live and not line.printed:
            line.printed = True
            text = f"{line.mark()} {step:<20} {line.note():<20} {line.time():>8}"
            self._console.print(text, highlight=False)
