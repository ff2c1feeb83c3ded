"""Measures one ingested span with TensorFlow Data Validation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perennial.beam import make_pipeline
from perennial.examples import split_files
from perennial.tfx_compat import import_tfdv

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

STATISTICS_FILE = "FeatureStats.pb"


def compute_statistics(examples: Path, beam_options: list[str], output: Path, schema: Schema | None = None) -> None:
    """Writes `output/FeatureStats.pb`: the statistics of all splits of a span together.

    The schema says which numbers are categories, whose values are then counted one by one; without it, none are.
    A span without readable examples gets statistics of zero examples.
    """
    tfdv = import_tfdv()
    from tensorflow_metadata.proto.v0 import statistics_pb2
    from tfx_bsl.public import tfxio

    output.mkdir(parents=True, exist_ok=True)
    files = split_files(examples)
    destination = output / STATISTICS_FILE
    if not files:
        empty = statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics_pb2.DatasetFeatureStatistics()])
        destination.write_bytes(empty.SerializeToString())
        return
    source = tfxio.TFExampleRecord(file_pattern=files, telemetry_descriptors=["perennial", "compute_statistics"])
    with make_pipeline(beam_options) as pipeline:
        (
            pipeline
            | "Read" >> source.BeamSource()
            | "Measure" >> tfdv.GenerateStatistics(tfdv.StatsOptions(schema=schema))
            | "Write" >> tfdv.WriteStatisticsToBinaryFile(str(destination))
        )


def read_statistics(folder: Path) -> DatasetFeatureStatisticsList:
    """The statistics that `compute_statistics` left in a folder."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    return statistics_pb2.DatasetFeatureStatisticsList.FromString((folder / STATISTICS_FILE).read_bytes())
