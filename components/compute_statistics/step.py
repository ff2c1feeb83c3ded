"""Measures one checked span: TFDV's statistics, and distributions that can be added up."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.data.beam import make_pipeline
from perennial.data.examples import read_batches, split_files
from perennial.data.merge_statistics import LENGTH_BUCKETS
from perennial.data.statistics import write_statistics
from perennial.tfx_compat import import_tfdv

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

    from perennial.project import Project


def measure_span(project: Project, examples: Path, output: Path) -> None:
    """Writes the statistics of a span as its project's schema and label ask for them."""
    options, categorical = project.settings.beam.options, (project.settings.label,)
    compute_statistics(examples, options, output, project.schema, categorical)


def compute_statistics(
    examples: Path,
    beam_options: list[str],
    output: Path,
    schema: Schema | None = None,
    categorical: Collection[str] = (),
) -> None:
    """Writes `output/FeatureStats.pb` and `distributions.npz` over all splits of a span.

    One pass over the examples gives both. A span without readable examples gets statistics of zero
    examples.

    Args:
        examples: Folder of `check_examples`.
        beam_options: Beam pipeline options.
        output: Folder to write to.
        schema: Says which numbers are categories, whose values TFDV then counts one by one, and
            which bytes are images, whose values nobody counts; without it, none are.
        categorical: Further features whose distributions count whole numbers one by one: the label.
    """
    tfdv = import_tfdv()
    import apache_beam as beam
    from tensorflow_metadata.proto.v0 import statistics_pb2

    from perennial.data.value_counts import measure_distributions

    files = split_files(examples)
    if not files:
        empty = statistics_pb2.DatasetFeatureStatisticsList(
            datasets=[statistics_pb2.DatasetFeatureStatistics()]
        )
        write_statistics(empty, {}, output, schema)
        return
    with make_pipeline(beam_options) as pipeline:
        # Whole batches go through the pipeline: one record at a time, most of the time would go
        # into their passing.
        batches = (
            pipeline
            | "Files" >> beam.Create(files)
            | "Read" >> beam.FlatMap(lambda file: read_batches([file]))
        )
        counted = batches | "Count" >> beam.CombineGlobally(
            measure_distributions(schema, categorical)
        )
        measured = batches | "Measure" >> tfdv.GenerateStatistics(statistics_options(schema))
        _ = measured | "Write" >> beam.Map(
            write_statistics, beam.pvalue.AsSingleton(counted), output, schema
        )


def statistics_options(schema: Schema | None) -> Any:
    """Makes TFDV's options: its defaults, with frequent values counted in columns."""
    tfdv = import_tfdv()
    from tensorflow_data_validation.statistics.generators.basic_stats_generator import (
        BasicStatsGenerator,
    )

    from components.compute_statistics.top_values import TopValues

    options = tfdv.StatsOptions(schema=schema, num_values_histogram_buckets=LENGTH_BUCKETS)
    basic = BasicStatsGenerator(
        schema=schema,
        num_values_histogram_buckets=options.num_values_histogram_buckets,
        num_histogram_buckets=options.num_histogram_buckets,
        num_quantiles_histogram_buckets=options.num_quantiles_histogram_buckets,
        epsilon=options.epsilon,
    )
    options.add_default_generators = False
    options.generators = [basic, TopValues(schema)]
    return options
