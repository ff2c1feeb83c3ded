"""The user's module is loaded by its path, and its mistakes are named by their line."""

from __future__ import annotations

import functools
import sys

import pytest

from perennial.errors import ProjectError, describe_error
from perennial.user_module import (
    defined_names,
    find_module,
    function_line,
    imported_files,
    load_module,
)
from tests.forked import forked
from tests.perennial.folders import make_project


def _write(folder, text):
    path = folder / "model.py"
    path.write_text(text)
    return path


def test_loaded_without_touching_the_path(tmp_path):
    before = list(sys.path)
    assert load_module(_write(tmp_path, "ANSWER = 42\n")).ANSWER == 42
    assert sys.path == before and "model" not in sys.modules


def test_another_text_is_another_module(tmp_path):
    first = load_module(_write(tmp_path, "ANSWER = 1\n"))
    assert load_module(_write(tmp_path, "ANSWER = 2\n")).ANSWER == 2 and first.ANSWER == 1


def test_missing_file(tmp_path):
    with pytest.raises(ProjectError, match=r"no such file.*model\.module"):
        load_module(tmp_path / "model.py")


@pytest.mark.parametrize(
    "text, says",
    [
        (
            "A = 1\nimport no_such_library\n",
            "model.py:2 must import. Received: ModuleNotFoundError: No module named",
        ),
        (
            "A = 1\n\nB = A / 0\n",
            "model.py:3 must import. Received: ZeroDivisionError: division by zero",
        ),
        ("def broken(:\n", "model.py:1 must import. Received: SyntaxError"),
        ("def f():\n    assert False\n\nf()\n", "model.py:2 must import. Received: AssertionError"),
    ],
)
def test_error_while_it_is_imported_names_the_line_and_is_not_remembered(tmp_path, text, says):
    path = _write(tmp_path, text)
    for _ in range(2):
        with pytest.raises(ProjectError) as refused:
            load_module(path)
        assert str(refused.value).startswith(says)
    path.write_text("A = 1\n")
    assert load_module(path).A == 1


def test_syntax_error_in_what_it_imports_names_its_own_line(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_helper.py").write_text("\n\n\n\ndef broken(:\n")
    with pytest.raises(ProjectError, match=r"^model\.py:2 must import"):
        load_module(_write(tmp_path, "A = 1\nimport their_helper\n"))


def test_an_error_that_says_nothing_is_described_by_its_kind():
    assert describe_error(AssertionError()) == "AssertionError"
    assert describe_error(ValueError("one\ntwo")) == "ValueError: one"


def test_line_of_a_function(tmp_path):
    module = load_module(_write(tmp_path, "A = 1\n\n\ndef build_model(graph):\n    return None\n"))
    assert function_line(module.build_model) == "model.py:4: build_model"
    assert function_line(functools.partial(module.build_model, 1)) == "partial"


def test_a_module_is_found_by_its_importable_name_without_importing_its_packages():
    package = "tfx.examples.chicago_taxi_pipeline"
    found = find_module(f"{package}.taxi_utils_native_keras")
    assert found.parts[-2:] == ("chicago_taxi_pipeline", "taxi_utils_native_keras.py")
    assert {"preprocessing_fn", "run_fn"} <= defined_names(found)
    assert find_module("json").parts[-2:] == ("json", "__init__.py")
    assert package not in sys.modules


@pytest.mark.parametrize("name", ["tfx.exampels.taxi", "no_such_package", "model", "a-b.c", "sys"])
def test_a_name_that_leads_nowhere_is_told(name):
    with pytest.raises(ProjectError) as refused:
        find_module(name)
    assert str(refused.value).startswith(
        "project.yaml: model.module must be a .py file"
    ) and name in str(refused.value)
    assert "Install the package" in str(refused.value)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Exception encountered when calling Reshape.call().\n\n\x1b[1mThe size is "
            "wrong.\x1b[0m\n\nArguments: x",
            "The size is wrong.",
        ),
        (
            "Graph execution error:\n\nDetected at node x\nindices = 12 is not in [0, 10)\n\t "
            "[[{{node gather}}]]",
            "12 is not in [0, 10)",
        ),
        ("first line\nsecond line", "first line"),
    ],
)
def test_the_line_that_tells_most_is_told(message, told):
    found = describe_error(ValueError(message))
    assert told in found and "\n" not in found and "\x1b" not in found
    assert "Arguments" not in found and "second" not in found and "Graph execution" not in found


CONTROL_FLOW = """
import tensorflow as tf


def preprocessing_fn(inputs):
    if tf.reduce_sum(inputs["x"]) > 0:
        return {"x": inputs["x"]}
    return {"x": -inputs["x"]}


def build_model(graph, hp): ...
"""


def test_python_of_the_user_becomes_part_of_the_graph_and_that_of_libraries_is_left(tmp_path):
    project = make_project(tmp_path / "project")
    project.module_path.write_text(CONTROL_FLOW)
    assert forked(trace, project) == ([1.0, 2.0], [True, True, False])


def trace(project):
    """What a traced function of the module gives, and whether two of libraries, and it, are left as they are."""
    import tensorflow as tf
    from tensorflow.python.autograph.impl.conversion import is_allowlisted
    from tensorflow_transform.tf_metadata.schema_utils import schema_as_feature_spec
    from tfx_bsl.tfxio.tensor_adapter import TensorAdapter

    function = project.module().preprocessing_fn
    for _ in range(2):
        project.module()
    given = tf.function(function)({"x": tf.constant([-1.0, -2.0])})["x"]
    left = [
        is_allowlisted(each)
        for each in (schema_as_feature_spec, TensorAdapter.OriginalTypeSpecs, function)
    ]
    return given.numpy().tolist(), left


FOLDER = {
    "helper.py": "from deep.words import COUNT\n\ndef late():\n    import other\n    return other.A\n",
    "deep/__init__.py": "",
    "deep/words.py": "from . import numbers_of\nCOUNT = numbers_of.COUNT\n",
    "deep/numbers_of.py": "COUNT = 3\n",
    "other.py": "A = 7\n",
    "keras.py": "IS_LOCAL = True\n",
    "unread.py": "",
}


@pytest.mark.parametrize("statement", ["import helper", "from . import helper"])
def test_a_module_imports_the_files_of_its_folder(tmp_path, statement):
    before = list(sys.path)
    for name, text in FOLDER.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    path = _write(tmp_path, f"{statement}\nimport deep.words\nB = helper.COUNT\n")
    module = load_module(path)
    assert (module.B, module.helper.late(), module.deep.words.COUNT) == (3, 7, 3)
    assert sys.path == before and not {"helper", "deep", "other"} & sys.modules.keys()
    names = {file.relative_to(tmp_path).as_posix() for file in imported_files(path)}
    assert names == {"model.py", *FOLDER} - {"keras.py", "unread.py"}
    (tmp_path / "other.py").write_text("A = 8\n")
    assert load_module(path).helper.late() == 8 and module.helper.late() == 7


def test_a_mistake_in_what_it_imports_is_told_and_not_remembered(tmp_path):
    (tmp_path / "helper.py").write_text("def broken(:\n")
    path = _write(tmp_path, "A = 1\nimport helper\n")
    with pytest.raises(ProjectError, match=r"^model\.py:2 must import"):
        load_module(path)
    (tmp_path / "helper.py").write_text("C = 1\n")
    assert load_module(path).helper.C == 1
