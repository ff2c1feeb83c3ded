"""Digests of the artifacts of a run, which two runs of a pipeline have in common."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
from pathlib import Path

# Files whose bytes differ from run to run: they hold times, random identifiers, paths, or a graph
# whose parts have any order. What TensorFlow Transform's graphs compute is in the transformed
# examples; a model's weights are compared.
NOT_COMPARED = (
    "executor_output.json",
    "fingerprint.pb",
    "events.out.",
    "data_docs",
    "saved_model.pb",
)


def digests(project: Path) -> dict[str, str]:
    """Gives the digest of each artifact's file, by its name without that of the run."""
    (artifacts,) = (project / ".run" / "artifacts").iterdir()
    files = (path for path in sorted(artifacts.rglob("*")) if path.is_file())
    names = {path: path.relative_to(artifacts).as_posix() for path in files}
    return {
        name: hashlib.sha256(canonical(path).replace(str(project).encode(), b"PROJECT")).hexdigest()
        for path, name in names.items()
        if not any(part in name for part in NOT_COMPARED)
    }


def canonical(path: Path) -> bytes:
    """Gives a file's contents without what differs from run to run.

    That is how long training took, the digest of files that are not compared, and the order of the
    features of tf.Examples, which tfx_bsl writes in any.
    """
    if path.name.endswith(".gz"):
        return sort_features(gzip.decompress(path.read_bytes()))
    if path.name == "training.json":
        record = json.loads(path.read_text())
        return json.dumps(
            {name: value for name, value in record.items() if name not in ("seconds", "digest")}
        ).encode()
    return path.read_bytes()


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
