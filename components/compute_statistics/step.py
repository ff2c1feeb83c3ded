"""Measures one checked span: TFDV's statistics, and distributions that can be added up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.data.beam import make_pipeline
from perennial.data.examples import read_batches, split_sources
from perennial.data.merge_statistics import LENGTH_BUCKETS
from perennial.data.statistics import write_statistics
from perennial.data.worker_files import Handover, PipelineFiles, Source, Workers, on_worker
from perennial.tfx_compat import import_tfdv

if TYPE_CHECKING:
    import pyarrow as pa
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

    from perennial.data.distributions import Distribution
    from perennial.project import Project


def measure_span(project: Project, examples: Path, output: Path) -> None:
    """Writes the statistics of a span as its project's schema and label ask for them."""
    categorical = (project.settings.label,)
    compute_statistics(examples, Workers.of(project), output, project.schema, categorical)


def compute_statistics(
    examples: Path,
    workers: Workers,
    output: Path,
    schema: Schema | None = None,
    categorical: Collection[str] = (),
) -> None:
    """Writes `output/FeatureStats.pb` and `distributions.npz` over all splits of a span.

    One pass over the examples gives both. A span without readable examples gets statistics of zero
    examples.

    Args:
        examples: Folder of `check_examples`.
        workers: Who runs the pipeline.
        output: Folder to write to.
        schema: Says which numbers are categories, whose values TFDV then counts one by one, and
            which bytes are images, whose values nobody counts; without it, none are.
        categorical: Further features whose distributions count whole numbers one by one: the label.
    """
    import_tfdv()
    from tensorflow_metadata.proto.v0 import statistics_pb2

    files = split_sources(examples, root=workers.root)
    if not files:
        empty = statistics_pb2.DatasetFeatureStatisticsList(
            datasets=[statistics_pb2.DatasetFeatureStatistics()]
        )
        write_statistics(empty, {}, output, schema)
        return
    with PipelineFiles(workers, "compute_statistics", output) as handed:
        _run(files, workers, handed.handover, schema, categorical)
        handed.receive()


def _run(
    files: list[Source],
    workers: Workers,
    handover: Handover,
    schema: Schema | None,
    categorical: Collection[str],
) -> None:
    tfdv = import_tfdv()
    import apache_beam as beam

    from perennial.data.value_counts import measure_distributions

    with make_pipeline(workers.options) as pipeline:
        # Whole batches go through the pipeline: one record at a time, most of the time would go
        # into their passing.
        batches = pipeline | "Files" >> beam.Create(files) | "Read" >> beam.FlatMap(_read)
        counted = batches | "Count" >> beam.CombineGlobally(
            measure_distributions(schema, categorical)
        )
        measured = batches | "Measure" >> tfdv.GenerateStatistics(statistics_options(schema))
        _ = measured | "Write" >> beam.Map(
            _give, beam.pvalue.AsSingleton(counted), handover, schema
        )


def _read(file: Source) -> Iterator[pa.RecordBatch]:
    with on_worker(file) as path:
        yield from read_batches([path])


def _give(
    statistics: DatasetFeatureStatisticsList,
    distributions: dict[str, Distribution],
    handover: Handover,
    schema: Schema | None,
) -> None:
    handover.give_folder(lambda folder: write_statistics(statistics, distributions, folder, schema))


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
