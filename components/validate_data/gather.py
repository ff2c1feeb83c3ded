"""Gathers what validation leaves: the window's examples and statistics, and pages on new spans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from components.validate_data.statistics_view import render_statistics
from perennial.data.distributions import Distribution, merge_spans, read_distributions
from perennial.data.examples import split_files, split_prefix
from perennial.data.merge_statistics import combine_statistics
from perennial.data.row_keys import digest_rows
from perennial.data.statistics import read_statistics, write_statistics
from perennial.errors import DataError
from perennial.project import Project
from perennial.spans.artifacts import DATA_DOCS, SET_ASIDE, SET_ASIDE_FILE, STATISTICS
from perennial.storage.atomic import link_file, link_tree, publish_text
from schemas.project import SPLITS
from schemas.records import CheckedSpan, SpanValidation

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList


@dataclass(frozen=True)
class Measured:
    """A checked span and its statistics: folders, and small records read when they are needed."""

    checked: Path
    statistics: Path

    @cached_property
    def record(self) -> CheckedSpan:
        """Reads what checking its examples left."""
        return CheckedSpan.read(self.checked)

    @cached_property
    def distributions(self) -> dict[str, Distribution]:
        """Reads the distribution of each feature."""
        return read_distributions(self.statistics)

    @cached_property
    def summary(self) -> DatasetFeatureStatisticsList:
        """Reads TFDV's statistics."""
        return read_statistics(self.statistics)

    @cached_property
    def rows_digest(self) -> str | None:
        """Computes the digest of its rows, the same in whatever order they landed."""
        return digest_rows(self.checked)

    @property
    def name(self) -> str:
        """Gives the span's name."""
        return self.record.span.name


def link_window(project: Project, good: Sequence[Measured], window: Path) -> None:
    """Makes `window/<span>/Split-*/` share the examples of the good spans; oldest span first.

    Where the splits are by time, all examples of the newest span are the test split, and no others.

    Raises:
        DataError: The splits are by time, and there is no older span to train on.
    """
    by_time = project.settings.data.splits.by == "time"
    if by_time and len(good) < 2:
        raise DataError(
            "project.yaml: data.splits.by: time",
            "needs two good spans, one to train on and a newer one to test on",
            ", ".join(span.name for span in good) or "none",
            "Land another span, or set data.splits.by to key.",
        )
    for number, span in enumerate(good):
        target = window / span.name
        link_file(span.checked / CheckedSpan.FILE, target / CheckedSpan.FILE)
        held_out = by_time and number == len(good) - 1
        for split in SPLITS:
            source = span.checked / f"Split-{split}"
            if held_out:
                _link_as_test(span.checked, split, target)
            elif source.is_dir() and not (by_time and split == "test"):
                link_tree(source, target / source.name)


def publish_statistics(project: Project, good: Sequence[Measured], measured: Path) -> None:
    """Writes the statistics and the distributions of all good spans together."""
    write_statistics(combine(project, good), combine_distributions(good), measured, project.schema)


def publish_span(
    project: Project,
    span: Measured,
    before: Sequence[Measured],
    judged: SpanValidation,
    validation: Path,
) -> None:
    """Publishes the pages on a new span: Data Docs, statistics, the rows set aside."""
    if (span.checked / DATA_DOCS).is_dir():
        link_tree(span.checked / DATA_DOCS, validation / DATA_DOCS / span.name)
    if span.record.readable:
        page = render_statistics(f"Span {span.name}", _sides(project, span, before), _flags(judged))
        publish_text(page, validation / STATISTICS / f"{span.name}.html")
    if span.record.set_aside and (span.checked / SET_ASIDE_FILE).exists():
        link_file(span.checked / SET_ASIDE_FILE, validation / SET_ASIDE / f"{span.name}.jsonl")


def combine(project: Project, spans: Sequence[Measured]) -> DatasetFeatureStatisticsList:
    """Combines the statistics of several spans, oldest span first."""
    return combine_statistics(
        [span.summary for span in spans], [span.distributions for span in spans], project.schema
    )


def combine_distributions(spans: Sequence[Measured]) -> dict[str, Distribution]:
    """Merges the distributions of several spans, oldest span first."""
    return merge_spans([span.distributions for span in spans])


def _link_as_test(checked: Path, split: str, target: Path) -> None:
    prefix = Path(split_prefix(target, "test"))
    for file in map(Path, split_files(checked, split)):
        # Files of two splits have the same names.
        renamed = prefix.with_name(f"{prefix.name}-{split}{file.name.removeprefix(prefix.name)}")
        link_file(file, renamed)


def _sides(
    project: Project, span: Measured, before: Sequence[Measured]
) -> list[tuple[str, DatasetFeatureStatisticsList, Mapping[str, Distribution]]]:
    sides: list[tuple[str, DatasetFeatureStatisticsList, Mapping[str, Distribution]]] = [
        (f"span {span.name}", span.summary, span.distributions)
    ]
    if before:
        title = (
            f"window before it ({before[0].name} to {before[-1].name})"
            if len(before) > 1
            else before[0].name
        )
        sides.append((title, combine(project, before), combine_distributions(before)))
    return sides


def _flags(judged: SpanValidation) -> dict[str, str]:
    drifted = [
        check for check in judged.checks if check.verdict == "failed" and check.distance is not None
    ]
    return {check.subject: check.message for check in reversed(drifted)}
