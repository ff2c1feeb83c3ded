"""The modules of the warm process when it has imported everything."""

from __future__ import annotations

import json
import time

from perennial.processes import is_alive
from perennial.runner import warm
from perennial.runner.warm_place import find_place

# Libraries that others import, and that no step needs; together a quarter of the imports' time.
NOT_NEEDED = [
    "IPython",
    "altair",
    "jedi",
    "nltk",
    "pymongo",
    "kubernetes.client",
    "docker",
    "prompt_toolkit",
]
NEEDED = [
    "tensorflow",
    "apache_beam",
    "great_expectations",
    "mlflow",
    "components.train_model.step",
]


def test_libraries_that_no_step_needs_are_not_imported(tmp_path):
    assert (
        warm.call("tests.runner.jobs:loaded", str(tmp_path / "loaded"), [*NOT_NEEDED, *NEEDED]) == 0
    )
    assert json.loads((tmp_path / "loaded").read_text()) == NEEDED
    (status,) = [status for status in warm.statuses() if status.key == find_place().key]
    time.sleep(0.5)
    assert is_alive(status.process)  # nobody uses it now, and it waits for who comes next
