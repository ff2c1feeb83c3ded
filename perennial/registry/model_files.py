"""Checks that a model's folder holds a SavedModel and weights, and no code that runs when read.

Unpickling runs whatever the file says; a `.keras` archive and an HDF5 file of Keras name the
functions and layers that reading them calls. Such files are refused by their name and by their
contents, before anything reads them.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from perennial.errors import IntegrityError
from perennial.storage.digests import verify_folder

SAVED_MODEL_FILE = "saved_model.pb"
_GRAPH_FILES = (SAVED_MODEL_FILE, "fingerprint.pb")
_EXTRA, _EXTRA_FILES, _USER_MODEL = (
    "assets.extra",
    ("contract.json", "tf_serving_warmup_requests"),
    "user_model",
)
_WEIGHTS = "weights.npz"

_PICKLE, _KERAS, _HDF5 = "a pickle", "a .keras archive", "an HDF5 file"
_SUFFIXES = {
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".joblib": _PICKLE,
    ".dill": _PICKLE,
    ".pt": _PICKLE,
    ".pth": _PICKLE,
    ".keras": _KERAS,
    ".h5": _HDF5,
    ".hdf5": _HDF5,
}
_HDF5_MAGIC, _ZIP_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
# First bytes of pickles. Source: the opcode PROTO of pickletools, and the protocols that pickle
# writes by itself.
_PICKLE_MAGICS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_LARGEST_TEXT = (
    1 << 20
)  # a pickle without such bytes (protocol 0 or 1) is looked for in files up to this, in bytes


def verify_model(folder: Path, digest: str) -> None:
    """Checks that a model's folder holds only what it may, and has the recorded digest.

    Raises:
        IntegrityError: It holds something else, or has another digest, or no files.
    """
    check_model_files(folder)
    verify_folder(folder, digest)


def check_model_files(folder: Path) -> None:
    """Checks that a folder is a SavedModel, with weights and text beside it at most.

    Raises:
        IntegrityError: It is none, or holds a pickle, an archive of Keras, an HDF5 file, a link, or
            anything else.
    """
    where = f"model in {folder}"
    if not (folder / SAVED_MODEL_FILE).is_file():
        raise IntegrityError(
            where, "must be a SavedModel", f"no {SAVED_MODEL_FILE}", "Run again to rebuild it."
        )
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if refused := _refuse(path, PurePosixPath(name.as_posix())):
            expected = (
                "must hold a SavedModel and weights only, which run no code when they are read"
            )
            raise IntegrityError(
                where, expected, f"{name}: {refused}", "Export it with tf.saved_model.save."
            )


def _refuse(path: Path, name: PurePosixPath) -> str | None:
    """Tells what is wrong with a file or folder below a model's folder; None: nothing."""
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    if path.is_dir():
        return None
    if not path.is_file():
        return "no regular file"
    if known := _SUFFIXES.get(name.suffix.lower()):
        return known
    if not _allowed(name.parts):
        return "no part of a SavedModel"
    return _refuse_weights(path) if name.name == _WEIGHTS else _refuse_contents(path, name)


def _allowed(parts: tuple[str, ...]) -> bool:
    """Tells whether a SavedModel may have a file there.

    A SavedModel that a user's `run_fn` saved may lie in it as a whole.
    """
    if parts[:2] == (_EXTRA, _USER_MODEL):
        return _allowed(parts[2:])
    match parts:
        case (name,):
            return name in _GRAPH_FILES
        case ("variables", name):
            return name == "variables.index" or name.startswith("variables.data-")
        case ("assets", *_):
            return True
        case (extra, name) if extra == _EXTRA:
            return name in _EXTRA_FILES or name == _WEIGHTS
    return False


def _refuse_contents(path: Path, name: PurePosixPath) -> str | None:
    with path.open("rb") as stream:
        begin = stream.read(8)
        stream.seek(0)
        if begin == _HDF5_MAGIC:
            return _HDF5
        if begin.startswith(_ZIP_MAGIC):
            return _describe_archive(path)
        if name.parts[-2:-1] == ("variables",):
            # Numbers may begin as a pickle does: then what follows must be one, too.
            return (
                _PICKLE if begin.startswith(_PICKLE_MAGICS) and _reads_as_pickle(stream) else None
            )
        if begin.startswith(_PICKLE_MAGICS):
            return _PICKLE
        old = (
            path.stat().st_size <= _LARGEST_TEXT
            and _reads_as_pickle(stream)
            and stream.read(1) == b""
        )
        return _PICKLE if old else None


def _reads_as_pickle(stream: BinaryIO) -> bool:
    """Tells whether the bytes are a pickle's instructions; nothing is run.

    They must reach the pickle's end, where the stream then stands.
    """
    try:
        return (
            sum(1 for _ in pickletools.genops(stream)) > 2
        )  # fewer do nothing, and a short text may be that
    except Exception:  # whatever it stumbles over, these are no instructions
        return False


def _describe_archive(path: Path) -> str:
    names = set(_members(path))
    if "config.json" in names:
        return _KERAS
    return (
        "a pickle of PyTorch" if any(name.endswith("data.pkl") for name in names) else "an archive"
    )


def _refuse_weights(path: Path) -> str | None:
    """Refuses what is more than arrays of numbers: an array of objects is a pickle."""
    import numpy as np

    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            names = [name for name in _members(path) if not name.endswith(".npy")]
            for name in () if names else arrays.files:
                if _is_pickled(path, f"{name}.npy"):
                    return f"{_PICKLE} in the array {name}"
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        return (
            "no file of weights "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        )
    return f"an archive with {names[0]} in it" if names else None


def _is_pickled(path: Path, member: str) -> bool:
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        _, _, dtype = read(stream)
    return bool(dtype.hasobject)


def _members(path: Path) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield from archive.namelist()
    except zipfile.BadZipFile:
        return
