"""Analysis.

Old spans are not opened again, and the graph is the one that reading everything gives.
"""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from perennial.project import load_project
from perennial.results.store import object_name, result_name
from tests.components.analyse_features.jobs import (
    analyse,
    build,
    features,
    fingerprints_of_both_orders,
    message,
    plainly,
)
from tests.components.analyse_features.windows import (
    make_rides,
    record_span,
    rides,
    spoil,
    with_body,
)
from tests.forked import forked
from tests.stored import kept, results_of

BODY = """
return {
    "z": tft.scale_to_z_score(inputs["fare"]),
    "unit": tft.scale_to_0_1(inputs["fare"]),
    "bucket": tft.bucketize(inputs["miles"], 10),
    "word": tft.compute_and_apply_vocabulary(inputs["payment"]),
    "by_word": tft.scale_to_z_score_per_key(inputs["fare"], key=inputs["payment"]),
}
"""
NESTED = """
z = tft.scale_to_z_score(inputs["fare"])
return {"nested": tft.scale_to_0_1(z * z), "z": z, "word": tft.compute_and_apply_vocabulary(inputs["payment"])}
"""
BROKEN = {
    'return {"x": inputs["faree"]}': "KeyError: 'faree'",
    "assert False": "AssertionError",
    'raise ValueError("one\\ntwo")': "ValueError: one",
    'return {"x": tft.no_such_analyzer(inputs["fare"])}': "AttributeError",
}
DAYS = ["day-1", "day-2"]


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """A project, its window of two spans, and the graph of a first analysis."""
    folder = tmp_path_factory.mktemp("analysed")
    project = make_rides(folder / "project", BODY)
    forked(build, project, folder / "window", 1, 2)
    assert forked(analyse, project, folder / "window", folder / "graph") == (DAYS, [])
    return project, folder


@pytest.fixture
def again(analysed, tmp_path):
    """A copy to be changed: project, window and a folder for graphs."""
    project, folder = analysed
    shutil.copytree(project.folder, tmp_path / "project")
    shutil.copytree(folder / "window", tmp_path / "window")
    return (
        with_body(type(project)(tmp_path / "project", project.settings), BODY),
        tmp_path / "window",
        tmp_path,
    )


def _assert_equal(project, window, graph, folder):
    """The graph gives what one gives that was analysed without anything kept."""
    forked(plainly, project, window, folder / "plain")
    rows = rides(9)
    found, expected = forked(features, graph, rows), forked(features, folder / "plain", rows)
    assert set(found) == set(expected)
    for name, values in expected.items():
        if (
            name == "bucket"
        ):  # sketches of quantiles that are merged in another order may move a border
            assert np.mean(found[name] == values) > 0.95
        elif values.dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_only_the_new_span_is_read(again):
    project, window, folder = again
    spoil(window, 1, 2)
    shutil.rmtree(window / "day-1")
    forked(build, project, window, 3)
    assert forked(analyse, project, window, folder / "graph") == (["day-3"], ["day-2"])
    forked(build, project, window, 2)
    _assert_equal(project, window, folder / "graph", folder)


def test_nothing_is_read_when_only_the_model_is_new(again):
    project, window, folder = again
    spoil(window, 1, 2)
    (folder / "graph" / "transform_graph").mkdir(parents=True)  # of an attempt that was killed
    project.module_path.write_text(
        project.module_path.read_text().replace("RuntimeError", "ValueError")
    )
    assert forked(analyse, project, window, folder / "graph") == ([], DAYS)
    forked(build, project, window, 1, 2)
    _assert_equal(project, window, folder / "graph", folder)


def test_analyzer_that_depends_on_another_makes_everything_be_read(again):
    project, window, folder = again
    project = with_body(project, NESTED)
    assert forked(analyse, project, window, folder / "first") == (DAYS, [])
    forked(build, project, window, 3)
    assert forked(analyse, project, window, folder / "graph") == ([*DAYS, "day-3"], [])
    _assert_equal(project, window, folder / "graph", folder)


CHANGES = {
    "another operation before it": 'tft.scale_to_z_score(tf.cos(inputs["fare"]))',
    "another branch before it": 'tft.scale_to_z_score(tf.cond(tf.size(inputs["fare"]) > 0, '
    'lambda: tf.tan(inputs["fare"]), lambda: tf.sin(inputs["fare"])))',
}


def test_changed_function_reads_every_span_again(again):
    """TensorFlow Transform gives the sine's entries to the cosine."""
    project, window, folder = again
    body = 'return {"z": tft.scale_to_z_score(tf.sin(inputs["fare"]))}'
    assert forked(analyse, with_body(project, body), window, folder / "graph") == (DAYS, [])
    for change in CHANGES.values():
        changed = with_body(project, f'return {{"z": {change}}}')
        assert forked(analyse, changed, window, folder / "graph") == (DAYS, []), change
    assert forked(analyse, with_body(project, body), window, folder / "graph") == ([], DAYS)


def test_order_of_features_does_not_change_the_fingerprint():
    """It differs from process to process, and all spans were read again."""
    first, second = forked(fingerprints_of_both_orders)
    assert first == second


def _archive(project, span):
    """The archive of a span's accumulators: an object of the root."""
    (result,) = (each for each in kept(project, "analyse_span") if each.value["span"] == span)
    (file,) = result.outputs["entries"].files
    return Path(project.root, object_name(file.digest))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_entries_are_made_again(again, damage):
    project, window, folder = again
    file = _archive(project, "day-1")
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.unlink()  # one that shares its bytes stays as it is
    file.write_bytes(data[:-3] if damage == "cut" else data)
    assert forked(analyse, project, window, folder / "graph") == (["day-1"], ["day-2"])
    spoil(window, 1)
    assert forked(analyse, project, window, folder / "graph") == ([], DAYS)


def test_another_machine_over_the_same_root_reads_the_new_span_alone(again, s3, monkeypatch):
    project, window, folder = again
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PERENNIAL_ROOT", s3.new_root())
    first, second = folder / "first", folder / "second"
    for machine in (first, second):
        shutil.copytree(project.folder, machine, ignore=shutil.ignore_patterns(".perennial"))
    assert forked(analyse, load_project(first), window, folder / "graph-1") == (DAYS, [])
    spoil(window, 1, 2)
    forked(build, project, window, 3)
    found = forked(analyse, load_project(second), window, folder / "graph-2")
    assert found == (["day-3"], DAYS)


def test_entry_that_would_run_code_is_refused(again):
    project, window, folder = again
    with zipfile.ZipFile(_archive(project, "day-1")) as archive:
        names = archive.namelist()
    forked(write_record, str(folder / "record"), pickle.dumps(Harmful(str(folder / "harm"))))
    (folder / "harmful").mkdir()
    with zipfile.ZipFile(folder / "harmful" / "entries.zip", "w") as archive:
        for name in names:
            archive.write(folder / "record", name)
    for result in kept(project, "analyse_span"):
        Path(project.root, result_name(result.step, result.key)).unlink()
        made = {"entries": folder / "harmful"}
        results_of(project).publish(result.step, result.key, made, {}, result.value)
    found = forked(message, project, window, folder / "graph")
    assert "results/analyse_span in the root must hold numbers, text and sketches of them" in found
    assert not (folder / "harm").exists()


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def write_record(path, record):
    import tensorflow as tf

    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        writer.write(record)


def test_span_that_landed_again_is_read_and_one_without_train_split_is_left_out(again):
    project, window, folder = again
    record_span(window, "day-2", {"train": 1}, "content of its second version")
    forked(build, project, window, 3)
    shutil.rmtree(window / "day-3" / "Split-train")
    record_span(window, "day-4", {"train": 0, "test": 9}, "held out by time")
    assert forked(analyse, project, window, folder / "graph") == (["day-2"], ["day-1"])


def test_function_without_analyzers_reads_nothing(again):
    project, window, folder = again
    project = with_body(project, 'return {"double": inputs["fare"] * 2.0}')
    spoil(window, 1, 2)
    assert forked(analyse, project, window, folder / "graph") == ([], DAYS)
    rows = rides(9)
    np.testing.assert_allclose(
        forked(features, folder / "graph", rows)["double"],
        [2 * row["fare"] for row in rows],
        rtol=1e-6,
    )


def test_window_without_examples_to_train_on(again):
    project, window, folder = again
    for span in DAYS:
        shutil.rmtree(window / span / "Split-train")
    assert forked(message, project, window, folder / "graph") == (
        "project.yaml: data.splits.train must leave some examples of the window. Received: none. "
        "Land more data, or raise it."
    )


def messages(project, bodies, window, output):
    return [message(with_body(project, body), window, output) for body in bodies]


def test_error_in_the_function_names_its_line(again):
    project, window, folder = again
    found = forked(messages, project, list(BROKEN), window, folder / "graph")
    for text, cause in zip(found, BROKEN.values(), strict=True):
        assert text.startswith("model.py:6: preprocessing_fn must run on the data. Received: ")
        assert cause in text and len(text.splitlines()) == 1


def test_messages_name_line_function_and_argument(again):
    project, window, folder = again
    wrong = 'from perennial import features\nreturn {"x": features.hashed(inputs["fare"], 9)}'
    kind = 'return {"x": tf.cast(inputs["fare"], tf.int32)}'
    nothing, feature, number = forked(
        messages, project, ["pass", wrong, kind], window, folder / "graph"
    )
    assert number == (
        "model.py:5: preprocessing_fn must return features of float32, int64, string. Received: "
        "`x` of int32. "
        "Use tf.cast."
    )
    assert nothing.startswith(
        "model.py:5: preprocessing_fn must return a dictionary of features. Received: NoneType"
    )
    assert feature == (
        "model.py:7: preprocessing_fn must run on the data. Received: TypeError: features.hashed: "
        "values must be text "
        "or whole numbers. Received: a tensor of float32. Correct it."
    )


def test_schema_that_gives_a_feature_no_tensor(again):
    project, window, folder = again
    text = project.schema_path.read_text().replace(
        '"payment" type: BYTES presence { min_fraction: 1 }', '"payment" type: BYTES'
    )
    project.schema_path.write_text(text)
    project = type(project)(project.folder, project.settings)
    found = forked(message, project, window, folder / "graph")
    assert found.startswith(
        "schema.pbtxt must say what tensor each feature becomes. Received: Feature payment"
    )
