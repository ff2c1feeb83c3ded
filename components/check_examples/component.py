"""Kubeflow wrapper of `check_examples`."""

from kfp.dsl import Dataset, Input, Output

from components.kubeflow import component


@component()
def check_examples(project: str, digest: str, examples: Input[Dataset], checked: Output[Dataset]):
    """Checks the rows of one span."""
    from pathlib import Path

    from components.check_examples.step import check_examples
    from perennial.project import open_project

    loaded = open_project(project, "check_examples", digest)
    record = check_examples(loaded, Path(examples.path), Path(checked.path))
    rows = sum(record.rows.values())
    checked.metadata.update({"span": record.span.name, "rows": rows, "set_aside": record.set_aside})
