"""Every feature, whatever its name, has an argument of its own that TensorFlow takes."""

from __future__ import annotations

import keyword
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.export.argument_names import argument_names
from tests.forked import forked
from tests.perennial.export.served_jobs import called_by_name

# Few letters, so that names that become the same are drawn often; and any text at all.
NAMES = st.text(alphabet="aAbB_1 -.(/é", min_size=1, max_size=4) | st.text(min_size=1)


@given(st.lists(NAMES, unique=True) | st.lists(st.sampled_from(keyword.kwlist), unique=True))
def test_arguments_are_names_that_tensorflow_takes_and_tells_apart(names):
    arguments = argument_names(names)
    assert list(sorted(names)) == sorted(arguments)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", argument) for argument in arguments.values())
    assert len({argument.lower() for argument in arguments.values()}) == len(names)
    assert not {*keyword.kwlist, "self"} & {*arguments.values()}


@given(st.lists(NAMES, unique=True))
def test_arguments_do_not_depend_on_the_order_of_the_features(names):
    assert argument_names(names) == argument_names(reversed(names))


@pytest.mark.parametrize("name", ["fare", "trip_miles", "V1", "inputs"])
def test_a_name_that_tensorflow_takes_stays(name):
    assert argument_names([name, "sepal length (cm)"]) == {
        name: name,
        "sepal length (cm)": "feature_sepal_length_cm",
    }


def test_names_that_become_the_same_are_numbered():
    arguments = argument_names(["a b", "a-b", "feature_a_b", "Width", "width"])
    assert arguments == {
        "Width": "Width",
        "a b": "feature_a_b_2",
        "a-b": "feature_a_b_3",
        "feature_a_b": "feature_a_b",
        "width": "feature_width",
    }


def test_tensorflow_saves_loads_and_calls_a_signature_of_any_names():
    """Random text, Python's words, and the names of arguments that TensorFlow itself has."""
    draw = random.Random(11)
    texts = ["".join(map(chr, draw.sample(range(0x20, 0x2FFF), 3))) for _ in range(60)]
    names = {*texts, *keyword.kwlist, *keyword.softkwlist, "self", "args", "kwargs", "inputs"}
    names |= {"name", "training", "signature", "examples", "Examples", "_", "__class__", "\n", "\0"}
    answers = forked(called_by_name, sorted(names))
    assert answers == {name: float(number) for number, name in enumerate(sorted(names))}
