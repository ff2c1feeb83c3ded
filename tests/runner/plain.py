"""Runs a compiled pipeline as kfp.local alone does.

`python -m tests.runner.plain PIPELINE ARTIFACTS PROJECT`.
"""

from __future__ import annotations

import sys

from kfp import components, local

if __name__ == "__main__":
    pipeline, artifacts, project = sys.argv[1:]
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=artifacts)
    components.load_component_from_file(pipeline)(project=project)
