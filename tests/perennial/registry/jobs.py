"""What the tests of the registry do in processes of their own, some of which are killed on the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perennial.project import load_project
from tests.forked import forked
from tests.perennial.judged import PASSED, Judged

# In a process that has imported everything and opened nothing, as steps are.
FORK = multiprocessing.get_context("fork")


def killed(job: Callable[..., None], *arguments: Any) -> None:
    """Runs a job that ends by SIGKILL."""
    assert forked(_exit_code, job, *arguments) == -signal.SIGKILL


def together(job: Callable[..., Any], *each: tuple[Any, ...]) -> list[Any]:
    """Runs a job with each of these arguments at the same time.

    Gives what they return, or the name of their error.
    """
    return forked(_race_all, job, each)


def _exit_code(job: Callable[..., None], *arguments: Any) -> int | None:
    process = FORK.Process(target=job, args=arguments)
    process.start()
    process.join(120)
    return process.exitcode


def _race_all(job: Callable[..., Any], each: tuple[tuple[Any, ...], ...]) -> list[Any]:
    barrier, results = FORK.Barrier(len(each)), FORK.SimpleQueue()
    racers = [
        FORK.Process(target=_race, args=(n, job, args, barrier, results))
        for n, args in enumerate(each)
    ]
    for racer in racers:
        racer.start()
    found = dict(results.get() for _ in racers)
    for racer in racers:
        racer.join(60)
    return [found[number] for number in range(len(each))]


def _race(
    number: int, job: Callable[..., Any], arguments: tuple[Any, ...], barrier: Any, results: Any
) -> None:
    barrier.wait(120)
    try:
        results.put((number, job(*arguments)))
    except Exception as error:
        results.put((number, type(error).__name__))


def register(folder: Path, ready: Judged) -> str:
    return ready.register(load_project(folder)).version


def versions(folder: Path) -> list[str]:
    from perennial.registry.versions import Registry

    return [version.version for version in Registry(load_project(folder)).versions()]


def promote(folder: Path, number: str) -> str:
    from perennial.registry.deployments import promote_version

    return promote_version(load_project(folder), number, "a race").version


def register_killed_after(folder: Path, ready: Judged, method: str) -> None:
    """Registers, and dies when MLflow's client has done this."""
    from mlflow import MlflowClient

    _die_after(MlflowClient, method)
    ready.register(load_project(folder))


def promote_killed_before_alias(folder: Path, number: str) -> None:
    from mlflow import MlflowClient

    _die_before(MlflowClient, "set_registered_model_alias")
    promote(folder, number)


def push_killed_before_alias(folder: Path, run: str, version: Any) -> None:
    from mlflow import MlflowClient

    from components.push_model.step import push_model

    _die_before(MlflowClient, "set_registered_model_alias")
    push_model(load_project(folder), run, version, None, PASSED)


def _die_after(owner: Any, method: str) -> None:
    original = getattr(owner, method)

    def dying(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, method, dying)


def _die_before(owner: Any, method: str) -> None:
    setattr(owner, method, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
