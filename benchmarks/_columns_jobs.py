"""One side of `columns.py`, in a process of its own.

Its cost is the last line that it prints, as JSON.

python benchmarks/_columns_jobs.py tfx|ours PROJECT OUTPUT
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from perennial.tfx_compat import import_tfdv, prepare_process


def main() -> None:
    """Runs a side and prints what it cost."""
    side, project, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    prepare_process()
    import_tfdv()
    jobs: dict[str, Callable[[Path, Path], Iterator[str]]] = {"tfx": run_tfx, "ours": run_ours}
    steps = jobs[side](project, output)
    next(steps)
    began, used, parts = time.perf_counter(), cpu_seconds(), dict[str, float]()
    last = began
    for part in steps:
        now = time.perf_counter()
        parts[part], last = now - last, now
    cost = {
        "seconds": time.perf_counter() - began,
        "cpu": cpu_seconds() - used,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parts": parts,
    }
    print(json.dumps(cost))


def run_tfx(project: Path, output: Path) -> Iterator[str]:
    """TFX's components under its LocalDagRunner.

    The first item says that everything is imported.
    """
    from tfx import components
    from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
    from tfx.orchestration import metadata, pipeline
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    yield "imported"
    examples = components.CsvExampleGen(input_base=str(project / "data"))
    statistics = components.StatisticsGen(examples=examples.outputs["examples"])
    schema = ImportSchemaGen(schema_file=str(project / "schema.pbtxt"))
    validator = components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    output.mkdir(parents=True)
    LocalDagRunner().run(
        pipeline.Pipeline(
            pipeline_name="taxi",
            pipeline_root=str(output / "pipeline"),
            components=[examples, statistics, schema, validator],
            enable_cache=False,
            metadata_connection_config=metadata.sqlite_metadata_connection_config(
                str(output / "metadata.db")
            ),
            beam_pipeline_args=["--direct_running_mode=in_memory"],
        )
    )
    yield "CsvExampleGen, StatisticsGen, ExampleValidator"


def run_ours(folder: Path, output: Path) -> Iterator[str]:
    """The product's steps; the first item says that everything is imported."""
    import apache_beam  # noqa: F401
    import great_expectations  # noqa: F401
    import tfx_bsl.public.tfxio  # noqa: F401

    from components.check_examples.step import check_examples
    from components.compute_statistics.step import compute_statistics
    from components.ingest_examples.step import ingest_examples
    from components.select_spans.step import find_window
    from perennial.data.worker_files import Workers
    from perennial.project import load_project

    yield "imported"
    project = load_project(folder)
    (span,) = find_window(project, {}).spans
    ingestion = ingest_examples(project, span, output / "examples")
    assert ingestion.problem is None, ingestion.problem
    yield "ingest_examples"
    checked = check_examples(project, output / "examples", output / "checked")
    failed = [check.message for check in checked.checks if check.verdict != "passed"]
    assert not failed, failed
    yield "check_examples"
    workers, label = Workers.of(project), (project.settings.label,)
    compute_statistics(output / "checked", workers, output / "statistics", project.schema, label)
    yield "compute_statistics"


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    main()
