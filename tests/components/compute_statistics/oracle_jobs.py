"""Statistics counted in columns against TFDV's own: what runs in a warm process."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa


def check_statistics_are_those_of_tfdv(folder: Path) -> None:
    """Missing values, several values, text that is none, NaN and infinities, ties, and more values than are ranked."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = text_format.Parse(
        'feature { name: "code" type: INT int_domain { is_categorical: true } }'
        ' feature { name: "image" type: BYTES image_domain {} }',
        schema_pb2.Schema(),
    )
    for stated in (None, schema):
        expected = _measure(stated, folder / "tfdv.pb", own=False)
        found = _measure(stated, folder / "own.pb", own=True)
        assert found == expected


def _batches() -> list[pa.RecordBatch]:
    random = np.random.default_rng(3)
    batches = []
    for size in (1, 700, 3000):
        ids = random.permutation(10**6)[:size]
        columns: dict[str, Any] = {
            "id": pa.array(
                [[b"id-%d" % number] for number in ids], pa.large_list(pa.large_binary())
            ),
            "code": pa.array([[int(number) % 7 - 3] for number in ids], pa.large_list(pa.int64())),
            "words": pa.array(
                [
                    None if n % 5 == 0 else [b"w%d" % (n % k) for k in range(1, 1 + n % 4)]
                    for n in ids.tolist()
                ],
                pa.large_list(pa.large_binary()),
            ),
            "odd": pa.array(
                [
                    [value]
                    for value in itertools.islice(
                        itertools.cycle([b"", b"\xff\xfe", b"a", b"\xc3\xa9"]), size
                    )
                ],
                pa.large_list(pa.large_binary()),
            ),
            "fare": pa.array(
                [
                    [value]
                    for value in itertools.islice(
                        itertools.cycle([1.5, np.nan, np.inf, -np.inf, 0.0]), size
                    )
                ],
                pa.large_list(pa.float32()),
            ),
            "image": pa.array([[b"\x89PNG"]] * size, pa.large_list(pa.large_binary())),
            "none": pa.nulls(size),
        }
        batches.append(pa.RecordBatch.from_pydict(columns))
    return batches


def _measure(schema: Any, file: Path, own: bool) -> str:
    import apache_beam as beam
    from tensorflow_metadata.proto.v0 import statistics_pb2

    from components.compute_statistics.step import statistics_options
    from perennial.data.beam import make_pipeline
    from perennial.data.merge_statistics import LENGTH_BUCKETS
    from perennial.tfx_compat import import_tfdv

    tfdv = import_tfdv()
    options = tfdv.StatsOptions(schema=schema, num_values_histogram_buckets=LENGTH_BUCKETS)
    options = statistics_options(schema) if own else options
    with make_pipeline(["--direct_running_mode=in_memory"]) as pipeline:
        measured = (
            pipeline | beam.Create(_batches(), reshuffle=False) | tfdv.GenerateStatistics(options)
        )
        _ = measured | beam.Map(lambda statistics: file.write_bytes(statistics.SerializeToString()))
    statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read_bytes())
    features = sorted(statistics.datasets[0].features, key=lambda feature: feature.path.step[0])
    del statistics.datasets[0].features[:]
    statistics.datasets[0].features.extend(features)
    return str(statistics)  # as text: no NaN is equal to another


def weigh_total(rows: int) -> tuple[int, int]:
    """Bytes that a total of so many different texts has, and that it takes when Beam hands it on."""
    import pickle

    import pyarrow as pa

    from components.compute_statistics.top_values import TopValues

    counter = TopValues(None)
    counted = counter.create_accumulator()
    for start in range(0, rows, 10_000):
        texts = [[f"trip-{number:09d}".encode()] for number in range(start, start + 10_000)]
        counted = counter.add_input(
            counted, pa.RecordBatch.from_arrays([pa.array(texts)], ["trip"])
        )
    ((total,),) = counter.compact(counted).values()
    return total.nbytes, len(pickle.dumps(total))
