"""The compiled pipelines are what the repository says they are."""

from pathlib import Path

import pytest
import yaml

from perennial.project import load_project
from perennial.training.stages import choose_stages
from pipelines.compile import compile_pipeline
from schemas.project import KubeflowSettings

ROOT = Path(__file__).parents[2]
IMAGE, FOLDER = "registry.example/perennial:7", "/projects/digits"


@pytest.mark.parametrize("example", ["digits", "taxi"])
def test_compiled_pipeline_is_the_golden_one(example, tmp_path):
    compiled = tmp_path / "pipeline.yaml"
    project = load_project(ROOT / "examples" / example)
    settings = project.settings
    compile_pipeline(compiled, choose_stages(project), settings.name, settings.kubeflow)
    golden = f"pipelines/compiled/{example}.yaml"
    hint = f"run `perennial compile examples/{example} -o {golden}` and read the diff"
    assert compiled.read_text() == (ROOT / golden).read_text(), hint


def test_cluster_pipeline_has_its_image_and_project_and_is_one_that_kubeflow_loads(tmp_path):
    from kfp import components

    path = tmp_path / "cluster.yaml"
    stages = choose_stages(load_project(ROOT / "examples" / "digits"))
    compile_pipeline(path, stages, "digits", KubeflowSettings(image=IMAGE, project=FOLDER))
    spec, _ = yaml.load_all(path.read_text(), yaml.CSafeLoader)
    images = {
        executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()
    }
    assert images == {IMAGE}
    loaded = components.load_component_from_file(str(path))
    assert loaded.component_spec.inputs["project"].default == FOLDER
