"""Kubeflow's driver would give every task of the compiled pipelines its inputs.

The rules are those of the backend's driver (resolve.go, 2.17): a parameter that is text takes every value; all others take
values of their own kind alone; what is not optional has a value or a default. No annotations from __future__: Kubeflow reads
those of components.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from kfp import dsl

COMPILED = sorted((Path(__file__).parents[2] / "pipelines" / "compiled").glob("*.yaml"))
NUMBERS = {"NUMBER_INTEGER", "NUMBER_DOUBLE"}
# Of a list whose items are dictionaries: what the driver makes of one.
ITEM = "STRUCT"


class Given(NamedTuple):
    """A value that a task is given: the task, the parameter, the kinds given and declared."""

    task: str
    parameter: str
    given: str
    declared: str


def refused(spec: dict[str, Any]) -> list[Given]:
    """All values that the driver would refuse; items of loops are dictionaries."""
    return [
        each
        for each in given_values(spec)
        if each.declared != "STRING"
        and each.given != each.declared
        and not {each.given, each.declared} <= NUMBERS
    ]


def given_values(spec: dict[str, Any]) -> Iterator[Given]:
    for outer in (spec["root"], *spec["components"].values()):
        for name, task in outer.get("dag", {}).get("tasks", {}).items():
            component = spec["components"][task["componentRef"]["name"]]
            declared = component.get("inputDefinitions", {}).get("parameters", {})
            given = task.get("inputs", {}).get("parameters", {})
            item = task.get("parameterIterator", {}).get("itemInput")
            for parameter, definition in declared.items():
                kind = definition["parameterType"]
                if parameter == item:
                    yield Given(name, parameter, ITEM, kind)
                elif parameter in given:
                    yield Given(name, parameter, kind_of(spec, outer, given[parameter]), kind)
                elif not definition.get("isOptional") and "defaultValue" not in definition:
                    yield Given(name, parameter, "nothing", kind)


def kind_of(spec: dict[str, Any], outer: dict[str, Any], source: dict[str, Any]) -> str:
    """The kind of what a source gives."""
    if "runtimeValue" in source:
        value = source["runtimeValue"]["constant"]
        kinds = {bool: "BOOLEAN", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", str: "STRING"}
        return {**kinds, list: "LIST", dict: "STRUCT"}[type(value)]
    if "componentInputParameter" in source:
        name = source["componentInputParameter"]
        return outer["inputDefinitions"]["parameters"][name]["parameterType"]
    made = source["taskOutputParameter"]
    producer = outer["dag"]["tasks"][made["producerTask"]]["componentRef"]["name"]
    outputs = spec["components"][producer]["outputDefinitions"]["parameters"]
    return outputs[made["outputParameterKey"]]["parameterType"]


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_the_driver_gives_every_task_its_inputs(path):
    spec, _ = yaml.load_all(path.read_text(), yaml.CSafeLoader)
    assert len(list(given_values(spec))) > 50
    assert refused(spec) == []


def test_a_loop_over_an_untyped_list_would_be_refused():
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def choose() -> list:
        return [{"name": "one"}]

    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def work(item: dict):
        pass

    @dsl.pipeline(name="untyped")
    def untyped():
        with dsl.ParallelFor(choose().output) as item:
            work(item=item)

    spec = MessageToDict(untyped.pipeline_spec)
    # Inside the loop the item counts as text, and the task asks for a structure.
    assert [(each.given, each.declared) for each in refused(spec)] == [("STRING", "STRUCT")]
