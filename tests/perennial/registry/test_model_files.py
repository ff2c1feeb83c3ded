"""What a model's folder may hold: a SavedModel and weights.

Whatever runs code when it is read is refused.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.errors import IntegrityError
from perennial.registry.model_files import check_model_files, verify_model
from perennial.storage.digests import digest_folder

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(64)


class Harmful:
    """What a pickle of it would do is call a function."""

    def __reduce__(self):
        return print, ("harm",)


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name.replace("__", "/").replace("_", "."), data)
    return buffer.getvalue()


def weights(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def model(tmp_path):
    """All that a model of a user's `run_fn` has.

    The served SavedModel with the user's own inside.
    """
    folder = tmp_path / "model"
    write_saved_model(folder)
    write_saved_model(folder / "assets.extra" / "user_model")
    return folder


def write_saved_model(folder: Path) -> None:
    files = {
        "saved_model.pb": b"\x08\x01\x12\x00",
        "fingerprint.pb": b"\x08\x02",
        "variables/variables.index": bytes(48),
        "variables/variables.data-00000-of-00001": np.arange(9, dtype=np.float32).tobytes(),
        "assets/vocabulary": "Chicago\nŁódź\nN.\n.\n".encode(),
        "assets.extra/contract.json": json.dumps({"features": []}).encode(),
        "assets.extra/weights.npz": weights(kernel=np.eye(3, dtype=np.float32)),
    }
    for name, data in files.items():
        put(folder / name, data)


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def test_whole_model_is_accepted(model):
    check_model_files(model)
    verify_model(model, digest_folder(model))


REFUSED = {
    "model.pkl": (b"", "a pickle"),
    "assets/encoder.joblib": (b"", "a pickle"),
    "assets.extra/user_model/model.keras": (b"", "a .keras archive"),
    "assets/weights.H5": (b"", "an HDF5 file"),
    "assets/vocabulary.txt": (pickle.dumps(Harmful()), "a pickle"),
    "assets/words.txt": (pickle.dumps(Harmful(), protocol=0), "a pickle"),
    "assets/numbers.txt": (pickle.dumps({"a": 1}, protocol=1), "a pickle"),
    "assets.extra/user_model/assets/state": (
        archive(config_json=b"{}", model_weights=HDF5),
        "a .keras archive",
    ),
    "assets/torch": (archive(archive__data_pkl=b"x"), "a pickle of PyTorch"),
    "assets/zip": (archive(a_txt=b"x"), "an archive"),
    "assets/layers": (HDF5, "an HDF5 file"),
    "variables/variables.data-00001-of-00002": (pickle.dumps(Harmful()), "a pickle"),
    "assets.extra/weights.npz": (
        weights(kernel=np.array([Harmful()], dtype=object)),
        "a pickle in the array kernel",
    ),
    "assets.extra/user_model/assets.extra/weights.npz": (
        archive(config_json=b"{}"),
        "an archive with config.json",
    ),
    "assets.extra/contract.json": (pickle.dumps({}), "a pickle"),
    "model.py": (b"print('harm')", "no part of a SavedModel"),
    "assets.extra/layers.py": (b"print('harm')", "no part of a SavedModel"),
    "variables/notes.txt": (b"", "no part of a SavedModel"),
    "saved_model.pbtxt": (b"", "no part of a SavedModel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_run_code_is_refused_though_the_digest_is_right(model, name):
    data, kind = REFUSED[name]
    put(model / name, data)
    with pytest.raises(IntegrityError) as refused:
        verify_model(model, digest_folder(model))
    assert f"Received: {name}: {kind}" in str(refused.value)


def test_weights_that_are_no_archive(model):
    put(model / "assets.extra" / "weights.npz", b"no weights")
    with pytest.raises(IntegrityError, match=r"weights\.npz: no file of weights"):
        check_model_files(model)


@pytest.mark.parametrize(
    "name", ["variables/variables.data-00001-of-00002", "assets/secret", "assets/folder"]
)
def test_links_are_refused(model, tmp_path, name):
    target = tmp_path / "outside"
    target.mkdir() if name.endswith("folder") else target.write_text("outside")
    (model / name).symlink_to(target)
    with pytest.raises(IntegrityError, match=f"{name}: a link to {target}"):
        check_model_files(model)


def test_what_is_no_saved_model_is_refused(model):
    (model / "saved_model.pb").unlink()
    with pytest.raises(
        IntegrityError, match=r"must be a SavedModel\. Received: no saved_model\.pb"
    ):
        check_model_files(model)


def test_a_flipped_bit_anywhere_is_found(model):
    digest = digest_folder(model)
    for file in [path for path in model.rglob("*") if path.is_file()]:
        healthy = file.read_bytes()
        file.write_bytes(healthy[:-1] + bytes([healthy[-1] ^ 1]))
        with pytest.raises(IntegrityError):
            verify_model(model, digest)
        file.write_bytes(healthy)
    verify_model(model, digest)


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1),
        max_size=9,
    )
)
def test_no_vocabulary_is_taken_for_a_pickle(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("vocabulary")
    put(folder / "saved_model.pb", b"\x08\x01")
    put(folder / "assets" / "words", "".join(f"{word}\n" for word in words).encode())
    check_model_files(folder)
    shutil.rmtree(folder)


@given(st.binary(max_size=400))
def test_weights_that_begin_as_a_pickle_does_are_weights(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp("numbers")
    put(folder / "saved_model.pb", b"\x08\x01")
    # The last byte keeps the numbers from being a pickle by chance: no instruction ends there.
    put(folder / "variables" / "variables.data-00000-of-00001", b"\x80\x04\xff" + numbers)
    check_model_files(folder)
    shutil.rmtree(folder)
