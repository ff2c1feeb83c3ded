"""Records the deployment of a version in the ledger; servers follow the ledger."""

from __future__ import annotations

from perennial.errors import ServingError
from perennial.ledger import Ledger
from perennial.project import Project
from perennial.registry import Registry
from schemas.records import Champion, Deployment, ModelVersion, ServingCheck


def push_model(
    project: Project, run: str, version: ModelVersion, compared_with: Champion | None, check: ServingCheck
) -> Champion:
    """Makes a version the champion, if the champion is still the one that it was compared with.

    A push that was recorded before the run was cut short is not recorded again.

    Raises:
        ServingError: The serving check did not pass.
        LedgerError: Another version was deployed since the comparison.
    """
    if not check.passed:
        raise ServingError(f"version {version.version}", "must pass the serving check", check.message, "See the log.")
    ledger = Ledger(project.ledger_url)
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
        ledger.deploy(deployment, run)
    Registry(project).mark_champion(version.version)
    pushed = ledger.champion()
    assert pushed is not None
    return pushed
