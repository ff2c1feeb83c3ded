"""TensorFlow Data Validation's statistics on disk, with the distributions beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perennial.data.distributions import Distribution, write_distributions
from perennial.data.merge_statistics import rank_values
from perennial.storage.atomic import publish_bytes

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema
    from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

STATISTICS_FILE = "FeatureStats.pb"


def write_statistics(
    statistics: DatasetFeatureStatisticsList,
    distributions: dict[str, Distribution],
    folder: Path,
    schema: Schema | None = None,
) -> None:
    """Writes both files.

    The statistics name every value of a feature that has a domain, as its check needs them.
    """
    rank_values(statistics, distributions, schema)
    write_distributions(distributions, folder)
    publish_bytes(statistics.SerializeToString(deterministic=True), folder / STATISTICS_FILE)


def read_statistics(folder: Path) -> DatasetFeatureStatisticsList:
    """Reads the statistics that `write_statistics` left in a folder."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    return statistics_pb2.DatasetFeatureStatisticsList.FromString(
        (folder / STATISTICS_FILE).read_bytes()
    )
