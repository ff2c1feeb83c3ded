"""Deployments that a person makes: promoting a version by hand, and rolling back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from perennial.errors import LedgerError, RegistryError
from perennial.ledger.events import Ledger
from perennial.ledger.people import person
from perennial.project import Project
from perennial.registry.repair import follow_ledger, reconcile
from perennial.registry.versions import Registry
from schemas.records import ABEnded, Deployment, ModelVersion


def promote_version(
    project: Project, number: str | None, why: str, ended: ABEnded | None = None
) -> Deployment:
    """Makes a registered version (the newest, when none is named) the champion.

    Args:
        project: Whose ledger and registry.
        number: The version.
        why: Kept in the ledger.
        ended: How the test between arms ends that decided this; None: one that runs is stopped.

    Raises:
        RegistryError: There is no such version, or it serves already.
        IntegrityError: Its files are not those that were registered.
    """
    reconcile(project)
    registry, ledger = Registry(project), Ledger(project.ledger_url)
    versions = registry.versions()
    if not versions:
        where = f"model {project.settings.name}"
        raise RegistryError(
            where, "must have a version to promote", "none", "`perennial run` trains the first one."
        )
    version = registry.version(number) if number else versions[-1]
    champion = ledger.champion()
    if champion is not None and champion.version == version.version:
        raise RegistryError(
            f"version {version.version}",
            "must not be the champion",
            "it serves already",
            "Choose another.",
        )
    return _deploy(project, registry, version, "promote", why, ended)


def roll_back(project: Project, why: str) -> Deployment:
    """Makes the version that served before the champion the champion again.

    Raises:
        LedgerError: Nothing served before.
        IntegrityError: The earlier version's files are not those that were registered.
    """
    reconcile(project)
    ledger = Ledger(project.ledger_url)
    stack = serving_stack([deployment for _, deployment in ledger.deployments()])
    if len(stack) < 2:
        now = (
            f"version {stack[-1].version} serves and none served before it"
            if stack
            else "nothing serves"
        )
        remedy = "`perennial promote` deploys any version of the registry."
        raise LedgerError("ledger", "must hold an earlier deployment to roll back to", now, remedy)
    registry = Registry(project)
    return _deploy(project, registry, registry.version(stack[-2].version), "rollback", why)


def serving_stack(deployments: Sequence[Deployment]) -> list[Deployment]:
    """Lists the deployments that no rollback took back, oldest first; the last one serves."""
    stack: list[Deployment] = []
    for deployment in deployments:
        if deployment.action == "rollback":
            stack.pop()
        else:
            stack.append(deployment)
    return stack


def _deploy(
    project: Project,
    registry: Registry,
    version: ModelVersion,
    action: Literal["promote", "rollback"],
    why: str,
    ended: ABEnded | None = None,
) -> Deployment:
    ledger = Ledger(project.ledger_url)
    with ledger.exclusive():  # `perennial clean` removes no version meanwhile
        registry.fetch(registry.version(version.version))  # verifies every byte
        champion = ledger.champion()
        deployment = Deployment(
            version=version.version,
            digest=version.digest,
            action=action,
            by=person(),
            why=why,
            replaces=champion.deployment if champion else None,
        )
        ledger.deploy(deployment, run=None, ended=ended)
    follow_ledger(project, ledger, registry)
    return deployment
