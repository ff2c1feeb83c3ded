"""What runs in a warm process for the tests of `combining` and `compute_statistics`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
OPTIONS = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]


def write_examples(rows: Rows, folder: Path) -> None:
    import tensorflow as tf

    from perennial.data.examples import split_prefix, to_example

    prefix = Path(split_prefix(folder, "train"))
    prefix.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(f"{prefix}-0.gz", "GZIP") as writer:
        for row in rows:
            writer.write(to_example(row).SerializeToString())


def measure(
    rows: Rows, folder: Path, schema: Any = None, categorical: Sequence[str] = ()
) -> tuple[Any, Any]:
    """The statistics and distributions of a span of these rows."""
    from components.compute_statistics.step import compute_statistics
    from perennial.data.distributions import read_distributions
    from perennial.data.statistics import read_statistics
    from perennial.data.worker_files import Workers

    write_examples(rows, folder / "examples")
    compute_statistics(
        folder / "examples", Workers(tuple(OPTIONS)), folder / "statistics", schema, categorical
    )
    return read_statistics(folder / "statistics"), read_distributions(folder / "statistics")


def combine_and_measure(
    spans: list[Rows], folder: Path, schema: Any = None, categorical: Sequence[str] = ()
) -> tuple[Any, Any]:
    """The statistics combined from those of the spans, and TFDV's of their concatenation."""
    import tensorflow_data_validation as tfdv
    from tfx_bsl.public import tfxio

    from perennial.data.beam import make_pipeline
    from perennial.data.examples import split_files
    from perennial.data.merge_statistics import LENGTH_BUCKETS, combine_statistics

    parts = [
        measure(rows, folder / str(number), schema, categorical)
        for number, rows in enumerate(spans)
    ]
    combined = combine_statistics(
        [part for part, _ in parts], [counted for _, counted in parts], schema
    )
    write_examples([row for rows in spans for row in rows], folder / "all")
    files = split_files(folder / "all")
    # Ten times finer quantiles than by default, so that it is the combination's error that is seen.
    options = tfdv.StatsOptions(
        schema=schema,
        num_values_histogram_buckets=LENGTH_BUCKETS,
        epsilon=0.001,
        num_rank_histogram_buckets=10_000,
    )
    source = tfxio.TFExampleRecord(file_pattern=files, telemetry_descriptors=["tests"])
    with make_pipeline(OPTIONS) as pipeline:
        measured = pipeline | source.BeamSource() | tfdv.GenerateStatistics(options)
        _ = measured | tfdv.WriteStatisticsToBinaryFile(str(folder / "all.pb"))
    return combined, tfdv.load_stats_binary(str(folder / "all.pb"))


def combine(parts: Any, distributions: Any) -> Any:
    from perennial.data.merge_statistics import combine_statistics

    return combine_statistics(parts, distributions)
