"""What runs in a warm process for the tests of `check_examples`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.project import Project
from schemas.records import Check, CheckedSpan

if TYPE_CHECKING:
    from components.check_examples.example_table import ExampleTable


def check(
    project: Project, rows: list[dict[str, Any]], folder: Path, files: int = 1, ingested: Any = None
) -> CheckedSpan:
    """Lays rows out as ingestion does, below `folder / "examples"`, and checks them into `folder / "checked"`."""
    from components.check_examples.step import check_examples

    lay_out(project, rows, folder / "examples", files, ingested)
    return check_examples(project, folder / "examples", folder / "checked")


def check_again(project: Project, folder: Path) -> CheckedSpan:
    from components.check_examples.step import check_examples

    return check_examples(project, folder / "examples", folder / "checked")


def check_in_parts(project: Project, folder: Path, most: int) -> CheckedSpan:
    """Checks laid out rows as a span is that has too many to be held: more than `most`."""
    from components.check_examples.expectations import Suite

    Suite.judge.__defaults__ = (most,)
    _read_small_batches()
    return check_again(project, folder)


def frame_and_blocks(
    folder: Path, without: set[int], scratch: Path, rows: int
) -> tuple[Any, list[Any]]:
    """A span's examples as one frame and as frames of so many rows."""
    _read_small_batches()
    table = table_of(folder, scratch).without(without)
    return table.frame(), list(table.blocks(rows))


def _read_small_batches() -> None:
    """Has examples read in batches of nine."""
    from components.check_examples import example_table
    from perennial.data.examples import read_batches

    example_table.read_batches = lambda files: read_batches(files, 9)


def lay_out(
    project: Project, rows: list[dict[str, Any]], folder: Path, files: int, ingested: Any = None
) -> None:
    import tensorflow as tf

    from perennial.data.examples import split_of, split_prefix, to_example
    from schemas.project import SPLITS
    from schemas.records import Ingestion, Span

    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for row in rows:
        splits[split_of(str(row["id"]), project.settings.data.splits)].append(row)
    for split, members in splits.items():
        Path(split_prefix(folder, split)).parent.mkdir(parents=True)
        for number in range(files):
            with tf.io.TFRecordWriter(
                f"{split_prefix(folder, split)}-{number:05d}.gz", "GZIP"
            ) as writer:
                for row in members[number::files]:
                    writer.write(to_example(_plain(row)).SerializeToString(deterministic=True))
    # Ingestion sets rows without a label aside, so it counts none.
    labels = [str(row["label"]) for row in rows if row.get("label") is not None]
    record = Ingestion(
        span=Span(name="2026-01-01", version=1, uri="data/day.csv", fingerprint="f"),
        columns=list(rows[0]) if rows else [],
        rows={split: len(members) for split, members in splits.items()},
        labels={label: labels.count(label) for label in sorted(set(labels))},
        content="c",
    ).model_copy(update=ingested)
    record.write(folder)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as ingestion makes it: bytes for text, nothing for what is missing."""
    return {
        name: v.encode() if isinstance(v, str) else v for name, v in row.items() if v is not None
    }


def read_ids(folder: Path) -> dict[str, list[str]]:
    """Split -> the ids of its examples, in the order of its files."""
    import tensorflow as tf

    from perennial.data.examples import read_records, split_files
    from schemas.project import SPLITS

    def id_of(record: bytes) -> str:
        return (
            tf.train.Example.FromString(record).features.feature["id"].bytes_list.value[0].decode()
        )

    return {
        split: [id_of(record) for record in read_records(split_files(folder, split))]
        for split in SPLITS
    }


def table_of(folder: Path, scratch: Path) -> ExampleTable:
    """The table of a span's examples."""
    from components.check_examples.example_table import make_table
    from perennial.data.examples import split_files

    return make_table(split_files(folder), scratch)


def frame_and_records(
    folder: Path, without: set[int], scratch: Path
) -> tuple[list[str], list[str]]:
    """The ids of the frame's rows, and those of the records that it is made of."""
    ids = read_ids(folder)
    # the order of split_files: by path, so eval before test before train
    return list(table_of(folder, scratch).without(without).frame()["id"]), [
        *ids["eval"],
        *ids["test"],
        *ids["train"],
    ]


@dataclass(frozen=True)
class FrameTable:
    """A table that is a frame already."""

    whole: Any

    def __len__(self) -> int:
        return len(self.whole)

    def frame(self, columns: Collection[str] | None = None) -> Any:
        kept = (
            self.whole.columns
            if columns is None
            else [name for name in self.whole.columns if name in columns]
        )
        return self.whole[kept]

    def blocks(self, rows: int) -> Iterator[Any]:
        for start in range(0, len(self), rows):
            yield self.whole.iloc[start : start + rows]


def judge(
    columns: dict[str, list[Any]], expectations: list[dict[str, Any]], most: int = 1 << 30
) -> list[tuple[Check, list[int], int]]:
    """For each expectation.

    Its check, the rows it names, and how many Great Expectations counts as unexpected.

    More rows than `most` are judged in parts.
    """
    import pandas as pd

    from components.check_examples.expectations import open_suite

    frame = pd.DataFrame(columns)
    counted = []
    with open_suite(expectations, "quarantine") as suite:
        batch = suite._definition.data.get_batch(batch_parameters={"dataframe": frame})
        for finding, expectation in zip(
            suite.judge(FrameTable(frame), "a span", most),
            suite._definition.suite.expectations,
            strict=True,
        ):
            result = batch.validate(expectation, result_format="BASIC").result
            counted.append(
                (finding.check, list(finding.reasons), result.get("unexpected_count") or 0)
            )
    return counted


def refusals(columns: dict[str, list[Any]], expectations: list[dict[str, Any]]) -> list[str]:
    """For each expectation alone: the error that it meets, in a project that knows the columns."""
    import pandas as pd

    from components.check_examples.expectations import open_suite
    from perennial.errors import PerennialError

    met = []
    for expectation in expectations:
        try:
            with open_suite([expectation], "quarantine", columns) as suite:
                suite.judge(FrameTable(pd.DataFrame(columns)), "a span")
            met.append("no error")
        except PerennialError as error:
            met.append(f"{type(error).__name__}: {error}")
    return met


def map_expectations() -> set[str]:
    """The type of every row-level expectation that Great Expectations has."""
    from great_expectations.expectations import core
    from great_expectations.expectations import expectation as base

    kinds = (
        base.ColumnMapExpectation,
        base.ColumnPairMapExpectation,
        base.MulticolumnMapExpectation,
    )
    known = (
        value
        for value in vars(core).values()
        if isinstance(value, type) and issubclass(value, kinds)
    )
    return {
        value.expectation_type for value in known if value.expectation_type
    }  # a withdrawn one has none


def build(expectations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What Great Expectations made of each."""
    from components.check_examples.expectations import build_expectations

    return [
        expectation.configuration.to_json_dict() for expectation in build_expectations(expectations)
    ]
