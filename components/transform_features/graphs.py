"""Gives the workers of other machines the graph of `analyse_features`."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perennial.data.worker_files import Handover

PACKED = "graph.zip"
_FUNCTION = "_RunMetaGraphDoFn"


def pack_graph(folder: Path, scratch: Path) -> Path:
    """Packs the graph's folder, and gives the archive."""
    with zipfile.ZipFile(scratch.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return scratch.with_suffix(".zip")


@contextmanager
def graphs_from(handover: Handover | None) -> Iterator[None]:
    """Has pipelines that are made in the block load their graph from a handover.

    TensorFlow Transform gives its workers the path of a folder, in the value of a side input. The
    folder is on the machine of the step, and TensorFlow reads no S3. There is no other way in: a
    runner may call the function that loads it on any worker.

    Args:
        handover: What the packed graph was sent by; None: the workers reach the folder.
    """
    if handover is None:
        yield
        return
    from tensorflow_transform.beam import impl

    own = getattr(impl, _FUNCTION)
    setattr(impl, _FUNCTION, _make_runner(own, handover))
    try:
        yield
    finally:
        setattr(impl, _FUNCTION, own)


def _make_runner(own: Any, handover: Handover) -> Any:
    """Makes a kind of TensorFlow Transform's function that unpacks its graph where it works."""

    class RunGraph(own):  # type: ignore[misc]
        def process(self, batch: Any, saved_model_dir: str) -> Any:
            if not hasattr(self, "_graph_state"):
                name = Path(saved_model_dir).name
                self._graph_state = self._shared_graph_state_handle.acquire(
                    lambda: self._load(name)
                )
            yield self._handle_batch(batch)

        def _load(self, name: str) -> Any:
            # It lies there for as long as the graph is used, as lookups may read it later.
            unpacked = tempfile.TemporaryDirectory()
            with handover.as_file(PACKED) as file, zipfile.ZipFile(file) as archive:
                archive.extractall(unpacked.name)
            state = self._make_graph_state(str(Path(unpacked.name, name)))
            state.unpacked = unpacked
            return state

    return RunGraph
