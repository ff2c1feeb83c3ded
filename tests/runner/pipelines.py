"""Small pipelines of tasks that need no libraries, and a program that runs one as `perennial run` runs its own."""

import io
import sys
from dataclasses import dataclass, field
from pathlib import Path

# No annotations from __future__: Kubeflow reads those of components.
from kfp import compiler, dsl
from rich.console import Console

from perennial.runner import local_run
from perennial.runner.local_run import LocalRun
from perennial.runner.step_display import StepDisplay


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def meet(folder: str, name: str, other: str) -> str:
    """Ends when a task of the other name has begun, too."""
    import pathlib
    import time

    (pathlib.Path(folder) / name).touch()
    until = time.monotonic() + 60
    while not (pathlib.Path(folder) / other).exists():
        assert time.monotonic() < until, f"{name} did not meet {other}"
        time.sleep(0.02)
    return name


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def join(first: str, second: str, names: list, letter: dsl.Output[dsl.Artifact]):  # type: ignore[type-arg]
    """Writes what others gave."""
    with open(letter.path, "w") as stream:
        stream.write(" ".join([first, second, *names]))


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def alone(folder: str, name: str) -> str:
    """Fails when another task is at work."""
    import pathlib
    import time

    with open(pathlib.Path(folder) / "at-work", "x"):
        time.sleep(0.2)
    (pathlib.Path(folder) / "at-work").unlink()
    return name


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def fail(folder: str, other: str):
    """Fails when another task has begun."""
    import pathlib
    import time

    while not (pathlib.Path(folder) / other).exists():
        time.sleep(0.02)
    (pathlib.Path(folder) / "failed").touch()
    raise ValueError("this one fails")


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def outlast(folder: str, name: str, other: str) -> str:
    """Begins, waits for the other to have failed, and works on a little."""
    import pathlib
    import time

    (pathlib.Path(folder) / name).write_text("")
    while not (pathlib.Path(folder) / other).exists():
        time.sleep(0.02)
    time.sleep(0.5)
    (pathlib.Path(folder) / f"{name}-ended").touch()
    return name


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def touch(folder: str, name: str, after: str = ""):
    """Leaves a file."""
    import pathlib

    (pathlib.Path(folder) / name).touch()


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def clean_up(folder: str, status: dsl.PipelineTaskFinalStatus):
    """Writes how the rest ended."""
    import pathlib

    (pathlib.Path(folder) / "cleaned-up").write_text(status.state)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def sleep(folder: str, name: str):
    """Writes which process works, and works for a minute."""
    import os
    import pathlib
    import time

    (pathlib.Path(folder) / name).write_text(f"{os.getpid()}.")
    time.sleep(60)


@dsl.pipeline
def inner(folder: str, name: str, other: str) -> str:
    return meet(folder=folder, name=name, other=other).output


@dsl.pipeline
def meetings(folder: str):
    """Tasks of one DAG, of two sub-DAGs of which one is conditional, and of a loop's iterations meet each other."""
    a = meet(folder=folder, name="a", other="b")
    b = meet(folder=folder, name="b", other="a")
    with dsl.If(a.output == "a"):
        inner(folder=folder, name="c", other="d")
    inner(folder=folder, name="d", other="c")
    with dsl.ParallelFor(["1", "2"]) as name:
        met = meet(folder=folder, name=name, other="2")
    join(first=a.output, second=b.output, names=dsl.Collected(met.output))


@dsl.pipeline
def in_turn(folder: str):
    """Tasks that could run side by side and must not."""
    first = alone(folder=folder, name="a")
    second = alone(folder=folder, name="b")
    with dsl.ParallelFor(["1", "2"]) as name:
        third = alone(folder=folder, name=name)
    join(first=first.output, second=second.output, names=dsl.Collected(third.output))


@dsl.pipeline
def failing(folder: str):
    """One of two tasks beside each other fails."""
    with dsl.ExitHandler(clean_up(folder=folder)):  # type: ignore[call-arg]
        fail(folder=folder, other="a")
        lasting = outlast(folder=folder, name="a", other="failed")
        touch(folder=folder, name="after", after=lasting.output)


@dsl.pipeline
def sleeping(folder: str):
    """Two tasks beside each other that work for long."""
    sleep(folder=folder, name="a")
    sleep(folder=folder, name="b")


@dataclass
class Ran:
    """How a run of a pipeline ended, and what it printed."""

    succeeded: bool
    run: LocalRun
    printed: list[str] = field(default_factory=list)


def run(pipeline: object, folder: Path, at_once: int) -> Ran:
    """Runs a pipeline, with its own warm process, in a folder that is also its argument."""
    compiler.Compiler().compile(pipeline, str(folder / "pipeline.yaml"))
    output = io.StringIO()
    # These tasks need no imports.
    local_run.STEP_GROUPS = dict.fromkeys(
        ("meet", "join", "alone", "fail", "outlast", "touch", "clean_up", "sleep"), ()
    )
    with StepDisplay(Console(file=output)) as display:
        local = LocalRun(
            folder / "pipeline.yaml",
            *(folder / name for name in ("artifacts", "run", "log")),
            display,
            warm=False,
            at_once=at_once,
        )
        succeeded = local.execute({"folder": str(folder)})
    return Ran(succeeded, local, output.getvalue().splitlines())


if __name__ == "__main__":
    run(sleeping, Path(sys.argv[1]), 2)
