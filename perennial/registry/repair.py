"""Ledger and registry agree, whenever a command is killed between the two; the ledger decides.

A run that registers its candidate first says so in the ledger; the decision that follows says that
it is done. A deployment stands in the ledger before the registry's alias moves. What is begun and
not done is completed by the next command. A file in the state folder remembers up to where
everything was done, so that a command with nothing to complete reads the ledger alone and
does not even import MLflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from perennial.errors import BusyError, PerennialError, describe_error
from perennial.ledger.events import Event, Ledger, NewEvent, body_of
from perennial.project import Project
from perennial.storage.atomic import publish_text
from schemas.records import Decision, DecisionMade, ModelVersion, Record, RegistrationBegun

if TYPE_CHECKING:
    from perennial.registry.versions import Registry

MARK_FILE = "reconciled.json"
# A deployment does not wait longer for its alias, in seconds; the next command sets it.
_ALIAS_PATIENCE = 30.0


class Reconciled(Record):
    """The newest registration and deployment of the ledger that the registry agrees with."""

    registration: int = 0
    deployment: int = 0


def reconcile(project: Project) -> list[str]:
    """Completes what an interrupted command left between ledger and registry; lists what it did.

    What another process is doing right now is left to that.

    Raises:
        LedgerError: The ledger cannot be read or written.
        RegistryError: The registry cannot be reached.
    """
    ledger, mark = Ledger(project.ledger_url), _read_mark(project)
    try:
        if not unfinished(ledger, mark) and _newest_deployment(ledger) <= mark.deployment:
            return []
        with ledger.exclusive(patience=0):
            return _complete(project, ledger, _read_mark(project))
    except BusyError:
        return []
    finally:
        ledger.close()


def reconcile_or_tell(project: Project) -> list[str]:
    """Reconciles for a command that only reads.

    A registry that cannot be reached, or nothing that can be written, becomes a note.
    """
    try:
        return reconcile(project)
    except (PerennialError, OSError) as error:
        return [f"not compared with the registry: {describe_error(error)}"]


def follow_ledger(project: Project, ledger: Ledger, registry: Registry) -> None:
    """Sets the registry's aliases after a deployment, by the ledger as it is at its turn.

    Of several that deploy at once, whoever comes last reads the newest deployment.
    """
    try:
        with ledger.exclusive(_ALIAS_PATIENCE):
            _align(project, ledger, registry)
    except BusyError:
        return  # a model is being stored: the next command sets them


def unfinished(ledger: Ledger, mark: Reconciled) -> list[Event]:
    """Lists the registrations after the mark that have no decision yet."""
    begun = ledger.events("registration_begun", after=mark.registration)
    decided = {event.run for event in ledger.events("decision")} if begun else set()
    return [event for event in begun if event.run not in decided]


def _complete(project: Project, ledger: Ledger, mark: Reconciled) -> list[str]:
    """Completes, under the lock, what a process that is gone left unfinished."""
    from perennial.registry.versions import Registry

    registry, begun = Registry(project), unfinished(ledger, mark)
    notes = [line for event in begun for line in _record_decision(ledger, registry, event)]
    if begun and (deleted := registry.delete_unfinished()):
        notes.append(
            f"deleted {deleted} unfinished MLflow run{'s' * (deleted > 1)} of a registration cut "
            "short"
        )
    if begun:
        _write_mark(project, registration=begun[-1].number)
    if _align(project, ledger, registry):
        notes.append("set the registry's aliases to what the ledger says")
    return notes


def _record_decision(ledger: Ledger, registry: Registry, begun: Event) -> list[str]:
    digest = body_of(begun, RegistrationBegun).digest
    version = _registered(registry.versions(), digest)
    if version is None or registry.lineage(version.version).get("run") != begun.run:
        return []
    text = registry.document(version, Decision.FILE)
    if text is None:
        return [
            f"version {version.version} was registered by run {begun.run}, but its decision was "
            "not kept"
        ]
    made = DecisionMade(
        decision=Decision.model_validate_json(text), version=version.version, digest=digest
    )
    ledger.append_once(NewEvent("decision", made, begun.run, key=decision_key(begun.run)))
    return [
        f"recorded the decision on version {version.version}, which run {begun.run} had registered"
    ]


def decision_key(run: str | None) -> str:
    """Gives the key of a run's decision in the ledger: a run has one."""
    return f"decision:{run}"


def _registered(versions: Sequence[ModelVersion], digest: str) -> ModelVersion | None:
    return next((version for version in versions if version.digest == digest), None)


def _align(project: Project, ledger: Ledger, registry: Registry) -> bool:
    number = _newest_deployment(ledger)
    champion = ledger.champion()
    changed = registry.set_aliases(champion.version if champion else None)
    _write_mark(project, deployment=number)
    return changed


def _newest_deployment(ledger: Ledger) -> int:
    champion = ledger.champion()
    return champion.deployment if champion else 0


def _read_mark(project: Project) -> Reconciled:
    try:
        return Reconciled.model_validate_json(
            (project.state / MARK_FILE).read_text(encoding="utf-8")
        )
    except (FileNotFoundError, ValidationError):  # what is not known is looked at again
        return Reconciled()


def _write_mark(project: Project, **numbers: int) -> None:
    known = _read_mark(project).model_copy(update=numbers)
    publish_text(known.model_dump_json(), project.state / MARK_FILE)
