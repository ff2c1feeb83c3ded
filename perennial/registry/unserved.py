"""Models in the registry that never served and that nothing needs: what `perennial clean` removes.

A version that ever served stays, as people roll back to it and runs compare with it; so do those
that an alias names, the newest among them, and the challenger of a test. What was registered by
the run that goes on, or by one that was cut short, is about to be deployed or registered again.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.registry.mlflow_runs import CandidateRun
from perennial.registry.versions import Registry
from schemas.records import ModelVersion


class UnservedModel(NamedTuple):
    """A model to remove: its MLflow run, its version if it still has one, and its bytes."""

    candidate: CandidateRun
    version: ModelVersion | None
    size: int


def find_unserved(project: Project, ledger: Ledger, before: datetime) -> list[UnservedModel]:
    """Finds the models that were registered before a time and never served, oldest first.

    Raises:
        LedgerError: The ledger cannot be read.
        RegistryError: The registry cannot be reached.
    """
    if ledger.newest("registration_begun") is None:
        return []  # nothing is made where there is no registry yet
    registry = Registry(project)
    old = [each for each in registry.candidates() if each.ended < before]
    if not old:
        return []
    kept = _served(ledger) | _tested(ledger)
    named = set(registry.aliases().values())
    runs = _runs_at_work(ledger)
    versions = {version.mlflow_run: version for version in registry.versions()}
    newest = max((int(version.version) for version in versions.values()), default=0)
    unserved = []
    for candidate in sorted(old, key=lambda each: each.ended):
        version = versions.get(candidate.run_id)
        number = version.version if version is not None else ""
        needed = candidate.digest in kept or number in named or number == str(newest)
        if not needed and candidate.of_run not in runs:
            unserved.append(UnservedModel(candidate, version, registry.size(candidate)))
    return unserved


def remove_unserved(project: Project, ledger: Ledger, model: UnservedModel) -> bool:
    """Removes a model, unless it was promoted or tested since it was found; tells whether it did.

    Raises:
        BusyError: Another process changes the registry for very long.
        RegistryError: The registry cannot be reached, or refuses.
    """
    with ledger.exclusive():
        if model.candidate.digest in _served(ledger) | _tested(ledger):
            return False
        Registry(project).remove(model.candidate, model.version)
        return True


def _served(ledger: Ledger) -> set[str]:
    return {deployment.digest for _, deployment in ledger.deployments()}


def _tested(ledger: Ledger) -> set[str]:
    """Gives the version that a test compares with the champion, which servers load."""
    running = ledger.running_test()
    return set() if running is None else {running[1].challenger_digest}


def _runs_at_work(ledger: Ledger) -> set[str | None]:
    """Lists the run that holds the lease, and the newest, which the next run may go on with."""
    lease, newest = ledger.lease(), ledger.newest_run()
    runs: set[str | None] = set()
    if lease is not None and not lease.released:
        runs.add(lease.run)
    if newest is not None and newest[2] is None:
        runs |= {newest[0].run, newest[1].selection.resumes}
    return runs
