"""Draws what the demo prints as a terminal in SVG.

Steps, outcomes and answers, without times and names of runs.
"""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 96
STEP = re.compile(r"(?P<mark>[✓=✗]) (?P<name>\w+) .* [\d.]+ s$")
MARKS = {"✓": "green", "=": "cyan", "✗": "red"}
OUTCOMES = {
    "promoted": "bold green",
    "kept_champion": "bold cyan",
    "data_rejected": "bold yellow",
    "failed": "bold red",
}
# Not a step: how long it takes, and whether it is there at all, is the machine's.
IMPORTS = "import_libraries"
# Rich's own format, but for its web fonts: a picture in a README loads nothing.
FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px/{line_height}px Menlo, "DejaVu Sans Mono", monospace }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Picture:
    """A terminal that is drawn."""

    def __init__(self) -> None:
        self._console = Console(
            record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False
        )
        self._empty = True

    def heading(self, title: str) -> None:
        """Draws a heading, apart from what is above it."""
        self._print(Text(title if self._empty else f"\n{title}", "bold"))
        self._empty = False

    def command(self, command: list[str]) -> None:
        """Draws a command as a person types it."""
        self._print(Text("$ " + " ".join(command), "dim"))

    def lines(self, lines: list[str]) -> None:
        """Draws lines as they are."""
        for line in lines:
            self._print(Text(line))

    def run(self, output: list[str]) -> None:
        """Draws the output of `perennial run`.

        Its steps side by side, without seconds, then outcome and reasons.
        """
        matches = [match for line in output if (match := STEP.match(line))]
        steps = [Text()]
        for mark, name in dict.fromkeys(
            (match["mark"], match["name"]) for match in matches if match["name"] != IMPORTS
        ):
            if len(steps[-1]) + len(name) + 2 > WIDTH:
                steps.append(Text())
            steps[-1].append(mark, MARKS[mark]).append(f" {name}  ")
        for line_of_steps in steps:
            self._print(line_of_steps)
        for line in output:
            outcome, _, rest = line.partition(" ")
            if outcome in OUTCOMES:
                self._print(Text(outcome, OUTCOMES[outcome]).append(f" {rest}"))
            elif line.startswith("  • "):
                self.lines(textwrap.wrap(line, WIDTH, subsequent_indent="    "))

    def save(self, path: Path) -> None:
        """Writes the picture."""
        svg = self._console.export_svg(title="make demo", code_format=FORMAT, unique_id="demo")
        path.write_text(
            "\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8"
        )

    def _print(self, text: Text) -> None:
        self._console.print(text, overflow="fold")
