"""Results of steps: found by key, published once, staged whole, over a folder and S3."""

from __future__ import annotations

import pytest

from perennial.errors import LostError, StoreError
from perennial.results.store import Results, key_of, reference_to
from perennial.storage.digests import digest_folder

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def made(tmp_path):
    """A folder that a step made: a file at its top and one deeper, two of them alike."""
    folder = tmp_path / "made"
    (folder / "Split-train").mkdir(parents=True)
    (folder / "record.json").write_text('{"rows": 3}')
    (folder / "Split-train" / "a.gz").write_bytes(b"examples" * 1000)
    (folder / "Split-train" / "b.gz").write_bytes(b"examples" * 1000)
    return folder


def test_a_result_is_found_by_its_key_and_staged_as_it_was(results, made, tmp_path):
    key = key_of("step", "digest", [1, "two"])
    assert results.find("step", key) is None
    published = results.publish("step", key, {"made": made}, {"made": {"rows": 3}}, "accepted")
    found = results.find("step", key)
    assert found == published and found.value == "accepted"
    assert found.outputs["made"].metadata == {"rows": 3}
    results.stage(reference_to(found, "made"), tmp_path / "staged")
    assert digest_folder(tmp_path / "staged") == digest_folder(made)


def test_equal_contents_are_stored_once(results, made):
    results.publish("step", "key", {"made": made}, {})
    assert len(list(results.objects.list("objects"))) == 2


def test_the_first_of_two_results_stands(results, made):
    first = results.publish("step", "key", {"made": made}, {}, "first")
    (made / "record.json").write_text("another")
    assert results.publish("step", "key", {"made": made}, {}, "second") == first


def test_a_file_that_is_passed_on_is_neither_read_nor_sent_again(results, made, tmp_path):
    first = results.publish("step", "key", {"made": made}, {})
    results.stage(reference_to(first, "made"), tmp_path / "staged")
    passed = tmp_path / "passed"
    passed.mkdir()
    (passed / "examples.gz").hardlink_to(tmp_path / "staged" / "Split-train" / "a.gz")
    name = next(file for file in first.outputs["made"].files if file.path.endswith("a.gz"))
    results.objects.delete(f"objects/{name.digest[:2]}/{name.digest}")  # a second sending shows
    second = results.publish("step", "other", {"made": passed}, {})
    assert second.outputs["made"].files[0].digest == name.digest
    assert results.objects.read(f"objects/{name.digest[:2]}/{name.digest}") is None


def test_an_output_that_was_removed_is_named(results, made, tmp_path):
    reference = reference_to(results.publish("step", "key", {"made": made}, {}), "made")
    results.objects.delete("results/step/key.json")
    with pytest.raises(StoreError, match=r"must hold what step made \(made\).*run again"):
        results.stage(reference, tmp_path / "staged")


@pytest.mark.parametrize("contents", [None, b"cut o"], ids=["gone", "damaged"])
def test_a_lost_object_is_named_and_what_it_was_part_of_is_made_anew(
    results, made, tmp_path, contents
):
    result = results.publish("step", "key", {"made": made}, {})
    file = next(file for file in result.outputs["made"].files if file.path == "record.json")
    name = f"objects/{file.digest[:2]}/{file.digest}"
    results.objects.delete(name)
    if contents is not None:
        results.objects.write_once(name, contents)
    with pytest.raises(LostError, match="removed: run again"):
        results.stage(reference_to(result, "made"), tmp_path / "staged")
    assert results.find("step", "key") is None
    another = Results(results.objects.location, tmp_path / "another")  # of the next run
    again = another.publish("step", "key", {"made": made}, {})
    another.stage(reference_to(again, "made"), tmp_path / "again")
    assert digest_folder(tmp_path / "again") == digest_folder(made)


def test_a_damaged_result_is_named_and_made_anew(results, made, tmp_path):
    results.objects.write_once("results/step/key.json", b'{"step": "st')
    assert results.of_step("step") == []
    with pytest.raises(LostError, match=r"results/step/key\.json.*removed: run again"):
        results.find("step", "key")
    again = results.publish("step", "key", {"made": made}, {})
    assert Results(results.objects.location, tmp_path / "another").find("step", "key") == again


def test_a_key_holds_all_that_a_result_is_made_of(results, made):
    reference = reference_to(results.publish("step", "key", {"made": made}, {}), "made")
    key = key_of("step", "digest", [reference, [reference], None, {"a": 1}])
    others = [
        key_of("other", "digest", [reference, [reference], None, {"a": 1}]),
        key_of("step", "other", [reference, [reference], None, {"a": 1}]),
        key_of("step", "digest", [reference, [], None, {"a": 1}]),
        key_of("step", "digest", [reference, [reference], None, {"a": 2}]),
    ]
    assert key not in others and len({*others}) == 4
    # What an input was made of does not count, but what it holds.
    alike = reference.model_copy(update={"step": "another", "key": "another"})
    assert key_of("step", "digest", [alike, [alike], None, {"a": 1}]) == key


def test_what_a_link_points_to_is_stored(results, made, tmp_path):
    (made / "link.json").symlink_to(made / "record.json")
    published = results.publish("step", "key", {"made": made}, {})
    (made / "record.json").unlink()
    results.stage(reference_to(published, "made"), tmp_path / "staged")
    assert (tmp_path / "staged" / "link.json").read_text() == '{"rows": 3}'
