"""What runs in a warm process for the tests of `validate_data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perennial.project import Project
from schemas.records import Check, Validation
from tests.components.chain import Chain, land


def validate_third_day(chain: Chain, project: Project, corruptions: list[str], folder: Path) -> dict[str, Validation]:
    """Corruption -> the verdict on day 3, landed so, after the chain's two days."""
    from components.compute_statistics.step import compute_statistics
    from components.ingest_examples.step import ingest_examples
    from components.validate_data.step import validate_data

    found = {}
    for kind in corruptions:
        here, span = folder / kind, land(project, 3, kind)
        ingest_examples(project, span, here / "examples")
        compute_statistics(here / "examples", project.settings.beam.options, here / "statistics", project.schema)
        days = [s.name for s in chain.selection.window]
        examples = [*map(chain.examples, days), here / "examples"]
        statistics = [*map(chain.statistics, days), here / "statistics"]
        found[kind] = validate_data(project, [span.name], examples, statistics, here / "window", here / "validation")
    return found


def measure(
    project: Project, examples: Path, keep: Callable[[int], bool], folder: Path, categories: bool = True
) -> Any:
    """Statistics of those of a span's examples whose label is kept."""
    import tensorflow as tf

    from components.compute_statistics.step import compute_statistics, read_statistics
    from perennial.examples import read_records, split_files, split_prefix

    prefix = Path(split_prefix(folder / "examples", "train"))
    prefix.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(f"{prefix}-0.gz", "GZIP") as writer:
        for record in read_records(split_files(examples)):
            label = tf.train.Example.FromString(record).features.feature["label"].int64_list.value[0]
            if keep(label):
                writer.write(record)
    schema = project.schema if categories else None
    compute_statistics(folder / "examples", project.settings.beam.options, folder / "statistics", schema)
    return read_statistics(folder / "statistics")


def is_odd(label: int) -> bool:
    return label % 2 == 1


def check_drift(project: Project, chain: Chain, folder: Path) -> dict[str, list[Check]]:
    """Case -> the checks of drift, where only odd digits land the day after all of them did."""
    from components.compute_statistics.step import read_statistics
    from components.validate_data.schema_checks import check_schema

    odd = measure(project, chain.examples("2026-01-02"), is_odd, folder / "odd")
    before = read_statistics(chain.statistics("2026-01-01"))
    after = read_statistics(chain.statistics("2026-01-02"))
    numbers = measure(project, chain.examples("2026-01-02"), is_odd, folder / "numbers", categories=False)
    empty = type(before)(datasets=[type(before.datasets[0])()])
    found = {}
    for measure_name in ("infinity_norm", "jensen_shannon_divergence"):
        schema = with_comparator(project, measure_name)
        cases = {"same": (after, before), "shifted": (odd, before), "first": (odd, None), "empty": (odd, empty)}
        for case, (statistics, previous) in {**cases, "numbers": (numbers, before)}.items():
            checks = check_schema(statistics, schema, previous)
            found[f"{measure_name} {case}"] = [check for check in checks if check.kind == "drift"]
    return found


def with_comparator(project: Project, measure_name: str) -> Any:
    """The project's schema with a drift threshold of 0.1 on the label."""
    schema = type(project.schema)()
    schema.CopyFrom(project.schema)
    (label,) = (feature for feature in schema.feature if feature.name == "label")
    getattr(label.drift_comparator, measure_name).threshold = 0.1
    return schema


def run_expectations(frames: Any, expectations: list[dict[str, Any]], output: Path) -> Any:
    from components.validate_data.expectations import check_expectations

    return check_expectations(frames, expectations, output)
