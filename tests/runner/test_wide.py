"""What is slow by nature is said before it begins."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from perennial.project import load_project
from perennial.runner.project_run import tell_width
from tests.perennial.folders import make_project


@pytest.mark.parametrize(("columns", "told"), [(0, False), (1000, True)])
def test_a_thousand_columns_are_announced(tmp_path, columns, told):
    project = make_project(tmp_path / "digits")
    features = [f'feature {{ name: "c{number}" type: FLOAT }}' for number in range(columns)]
    with project.schema_path.open("a") as file:
        file.write("\n".join(features))
    output = io.StringIO()
    tell_width(load_project(project.folder), Console(file=output, soft_wrap=True))
    assert ("note: 1,004 features: TensorFlow Transform" in output.getvalue()) is told
