"""One list of values, each with what becomes of it, wherever it comes in; docs/data.md shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["number", "whole number", "text"]
FILES = ("csv", "jsonl", "parquet", "tfrecord", "table")
"""Sources of spans; batch prediction reads the files of them, too."""
EVERY = (*FILES, "request")
NOT_CSV = tuple(source for source in EVERY if source != "csv")
REFUSED = "refused"
MISSING = "missing"
WORDS = ("n/a",)  # data.missing of these tests


@dataclass(frozen=True)
class Case:
    """A value of a feature: what becomes of it, in these sources."""

    kind: Kind
    value: Any
    expected: Any
    becomes: str
    sources: tuple[str, ...] = EVERY

    @property
    def shown(self) -> str:
        """Shows the value as JSON has it."""
        import json

        return f"`{json.dumps(self.value)}`"


TYPED = ("jsonl", "parquet", "request")  # they have truth values of their own
CASES = [
    Case("number", 1.5, 1.5, "1.5"),
    Case("number", 3, 3.0, "3.0"),
    Case("number", "1.5", 1.5, "1.5: text that reads as a number is that number"),
    Case("number", " 2 ", 2.0, "2.0"),
    Case("number", "1E5", 100000.0, "100000.0; without a schema it is text"),
    Case("number", True, 1.0, "1.0", TYPED),
    Case("number", "True", 1.0, "1.0; so are `true` and `TRUE`, and `False` is 0.0"),
    Case("number", "seven", REFUSED, REFUSED),
    Case("number", "1,234", REFUSED, REFUSED),
    Case("number", "1,5", REFUSED, "refused: a decimal point is asked for"),
    Case("number", "1_000", REFUSED, REFUSED),
    Case("number", 1e300, REFUSED, "refused: 32 bits hold up to 3.4e38", ("csv", "jsonl", "parquet", "table", "request")),
    Case("number", "n/a", MISSING, "a missing value, if `data.missing` has the word"),
    Case("number", None, MISSING, "a missing value; in CSV the empty cell"),
    Case("whole number", 3, 3, "3"),
    Case("whole number", "3", 3, "3"),
    Case("whole number", 3.0, 3, "3: a number without a fraction"),
    Case("whole number", "3.0", 3, "3"),
    Case("whole number", False, 0, "0", TYPED),
    Case("whole number", "False", 0, "0"),
    Case("whole number", 2.5, REFUSED, REFUSED),
    Case("whole number", "9223372036854775808", REFUSED, "refused: 64 bits hold up to 2^63 - 1"),
    Case("text", "a", b"a", "the text, in UTF-8"),
    Case("text", "007", b"007", "the text; without a schema, too"),
    Case("text", 7, b"7", "its digits"),
    Case("text", 2**63, b"9223372036854775808", "its digits; without a schema, too", ("csv", "jsonl", "parquet", "request")),
    Case("text", 1.5, REFUSED, "refused: which text is not known", NOT_CSV),
    Case("text", True, REFUSED, REFUSED, TYPED),
    Case("text", "n/a", MISSING, "a missing value, if `data.missing` has the word"),
]  # fmt: skip


def table() -> str:
    """Gives the list as docs/data.md shows it."""
    names = {
        EVERY: "every source",
        NOT_CSV: "all but CSV, where it is text",
        TYPED: "JSON, Parquet",
    }
    lines = ["| value | feature | source | what becomes of it |", "| --- | --- | --- | --- |"]
    for case in CASES:
        source = names.get(case.sources, "every source that holds it")
        lines.append(f"| {case.shown} | {case.kind} | {source} | {case.becomes} |")
    return "\n".join(lines)
