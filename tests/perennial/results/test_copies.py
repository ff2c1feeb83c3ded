"""Copies of results out of a root: a folder or S3, which stays as it is."""

from __future__ import annotations

import pytest

from perennial.errors import LostError
from perennial.results.copies import ResultCopies
from perennial.results.store import Results, object_name, reference_to
from perennial.storage.digests import digest_folder
from perennial.storage.objects import FolderObjects

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "made"
    (folder / "Split-train").mkdir(parents=True)
    (folder / "record.json").write_text('{"rows": 3}')
    (folder / "Split-train" / "a.gz").write_bytes(b"examples" * 1000)
    return folder


def test_an_output_is_copied_whole_and_may_be_changed_there(results, made, tmp_path):
    reference = reference_to(results.publish("step", "key", {"made": made}, {}), "made")
    copies = FolderObjects(tmp_path / "copies")
    ResultCopies(results, copies).copy_output(reference)
    staged = tmp_path / "staged"
    Results(copies.location, tmp_path / "other").stage(reference, staged)
    assert digest_folder(staged) == digest_folder(made)
    for copy in copies.list("objects"):
        (tmp_path / "copies" / copy.name).write_bytes(b"changed")
    results.stage(reference, tmp_path / "again")
    assert digest_folder(tmp_path / "again") == digest_folder(made)


def test_what_is_damaged_in_the_root_is_named_and_stays(results, made, tmp_path):
    result = results.publish("step", "key", {"made": made}, {})
    name = object_name(result.outputs["made"].files[-1].digest)
    results.objects.delete(name)
    results.objects.write_once(name, b"cut o")
    copies = FolderObjects(tmp_path / "copies")
    with pytest.raises(LostError, match="Received: other bytes"):
        ResultCopies(results, copies).copy_output(reference_to(result, "made"))
    assert results.objects.read(name) == b"cut o" and copies.read(name) is None
