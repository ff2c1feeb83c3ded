"""What runs in a warm process for the tests of `compare_designs`."""

from __future__ import annotations

from pathlib import Path

from perennial.errors import PerennialError
from perennial.project import Project, load_project
from schemas.records import DesignComparison
from tests.chain import with_settings
from tests.stored import unfinished

SPACES = """

def design_spaces():
    return {"plain": plain, "deep": deep}


def plain(transform_output, hp):
    pixels = keras.Input((SIDE * SIDE,), name="pixels")
    if hp.Boolean("convolution"):
        x = keras.layers.Reshape((SIDE, SIDE, 1))(pixels)
        x = keras.layers.Flatten()(keras.layers.Conv2D(hp.Int("filters", 4, 16), 3)(x))
    else:
        x = keras.layers.Dense(hp.Int("units", 8, 64), activation="relu")(pixels)
    return keras.Model({"pixels": pixels}, keras.layers.Dense(CLASSES, activation="softmax")(x))


def deep(transform_output, hp):
    x = pixels = keras.Input((SIDE * SIDE,), name="pixels")
    layers = hp.Choice("layers", [1, 2])
    if layers == 2:
        raise ValueError("two are too many")
    x = keras.layers.Dense(16, activation=hp.Choice("activation", ["relu", "tanh"]))(x)
    return keras.Model({"pixels": pixels}, keras.layers.Dense(CLASSES, activation="softmax")(x))
"""
# The process ends as a killed one does, once: when the second space is looked at.
KILLED = """    import os
    import pathlib
    if not pathlib.Path("{marker}").exists():
        pathlib.Path("{marker}").touch()
        os._exit(9)
"""


def with_spaces(project: Project, spaces: str = SPACES) -> Project:
    """The project with design spaces in its module, small enough to be compared in seconds."""
    text = project.module_path.read_text()
    project.module_path.write_text(text + spaces)
    return with_settings(load_project(project.folder), "designs", compare=True, samples=5, epochs=1)


def compare(project: Project, features: Path, output: Path) -> DesignComparison:
    from components.compare_designs.step import compare_designs

    return compare_designs(project, features, output)


def messages(
    project: Project, features: Path, cases: dict[str, str], output: Path
) -> dict[str, str]:
    """Case -> what is said of a module that ends with these lines."""
    text, found = project.module_path.read_text(), {}
    for case, spaces in cases.items():
        project.module_path.write_text(text)
        try:
            compare(with_spaces(project, spaces), features, output / case)
            found[case] = "no error"
        except PerennialError as error:
            found[case] = f"{type(error).__name__}: {error}"
        found[case] += " Samples were kept." if unfinished(project, "compare_designs") else ""
    return found
