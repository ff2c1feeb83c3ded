"""Records the deployment of a version in the ledger; servers follow the ledger."""

from __future__ import annotations

from perennial.errors import IntegrityError, ServingError
from perennial.ledger.events import Ledger
from perennial.project import Project
from perennial.registry.repair import follow_ledger
from perennial.registry.versions import Registry
from schemas.records import Champion, Deployment, ModelVersion, ServingCheck


def push_model(
    project: Project,
    run: str,
    version: ModelVersion,
    compared_with: Champion | None,
    check: ServingCheck,
    fence: int | None = None,
) -> Champion:
    """Makes a version the champion, if the champion is still the one that it was compared with.

    A push that was recorded before the run was cut short is not recorded again. `fence` is the
    number of the run's lease.

    Raises:
        LeaseLostError: Another run has taken the project over.
        ServingError: The serving check did not pass.
        IntegrityError: The registry's files are not those that were evaluated and checked.
        LedgerError: Another version was deployed since the comparison.
    """
    if not check.passed:
        raise ServingError(
            f"version {version.version}",
            "must pass the serving check",
            check.message,
            "The section on serving of the run's report tells more.",
        )
    ledger, registry = Ledger(project.ledger_url), Registry(project)
    _verify(registry, version)
    current = ledger.champion()
    if current is None or current.digest != version.digest:
        deployment = Deployment(
            version=version.version,
            digest=version.digest,
            action="push",
            by=f"run {run}",
            why="the gate promoted it",
            replaces=compared_with.deployment if compared_with else None,
        )
        ledger.deploy(deployment, run, fence)
    follow_ledger(project, ledger, registry)
    pushed = ledger.champion()
    assert pushed is not None
    return pushed


def _verify(registry: Registry, version: ModelVersion) -> None:
    """Checks that the registry still holds, under this number, the registered bytes."""
    stored = registry.version(version.version)
    if stored.digest != version.digest:
        where, remedy = (
            f"version {version.version} in the registry",
            "Run again to register the candidate anew.",
        )
        expected = f"must have the digest {version.digest} that was registered"
        raise IntegrityError(where, expected, stored.digest or "none", remedy)
    registry.fetch(stored)  # verifies every byte
