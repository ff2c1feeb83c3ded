"""Digests of the artifacts of a run, which two runs of a pipeline have in common."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from perennial.project import Project
from perennial.step_inputs import STEP_INPUTS
from tests.stored import kept, results_of

# Files whose bytes differ from run to run: they hold times, random identifiers, paths, or a graph
# whose parts have any order. What TensorFlow Transform's graphs compute is in the transformed
# examples; a model's weights are compared.
NOT_COMPARED = (
    "fingerprint.pb",
    "events.out.",
    "data_docs",
    "saved_model.pb",
)

# Fields of records that differ from run to run.
_TIMED = {
    "training.json": ("seconds", "digest"),
    "tuning.json": ("seconds",),
    "designs.json": ("seconds",),
    "serving_check.json": ("seconds_to_ready",),
}


def digests(project: Project) -> dict[str, list[str]]:
    """Gives the digests of each file of what each step made, of every time that it made one."""
    results, made = results_of(project), defaultdict(list)
    for step in STEP_INPUTS:
        for result in kept(project, step):
            for output, stored in result.outputs.items():
                for file in stored.files:
                    if not any(part in file.path for part in NOT_COMPARED):
                        digest = _digest(file.path, results.read_file(file), project)
                        made[f"{step}/{output}/{file.path}"].append(digest)
    return {name: sorted(digests) for name, digests in made.items()}


def _digest(path: str, data: bytes, project: Project) -> str:
    text = canonical(path, data).replace(str(project.folder).encode(), b"PROJECT")
    return hashlib.sha256(text).hexdigest()


def canonical(path: str, data: bytes) -> bytes:
    """Gives a file's contents without what differs from run to run.

    That is how long something took, the digest of files that are not compared, and the order of the
    features of tf.Examples, which tfx_bsl writes in any.
    """
    if path.endswith(".gz"):
        return sort_features(gzip.decompress(data))
    if path in _TIMED:
        return json.dumps(_without(json.loads(data), _TIMED[path])).encode()
    return data


def _without(value: Any, names: Collection[str]) -> Any:
    """Leaves out fields of a record, and of those that it holds."""
    if isinstance(value, dict):
        return {name: _without(each, names) for name, each in value.items() if name not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value


def sort_features(records: bytes) -> bytes:
    """Joins the tf.Examples of a TFRecord file, each with its features in order."""
    from tensorflow.core.example.example_pb2 import Example

    serialized, at = [], 0
    while at < len(records):
        (length,) = struct.unpack_from("<Q", records, at)  # then a checksum, the record, a checksum
        serialized.append(
            Example.FromString(records[at + 12 : at + 12 + length]).SerializeToString(
                deterministic=True
            )
        )
        at += 16 + length
    return b"".join(serialized)
