"""A proposed change of the schema, kept by `perennial schema diff`, applied by `accept`.

It lies in the root, so that whoever works on the project, on whatever machine, sees it. File and
ledger must not disagree, whenever a command is killed. What a person decided is therefore first
written into the proposal, then into schema.pbtxt, then into the ledger; the next command finishes
what was begun.
"""

from __future__ import annotations

import hashlib
import secrets

from pydantic import ValidationError

from perennial.errors import ProjectError
from perennial.ledger.events import Ledger, NewEvent
from perennial.ledger.people import person
from perennial.project import Project
from perennial.schema.text import read_schema_text, to_schema
from perennial.step_inputs import SCHEMA_FILE
from perennial.storage.atomic import publish_text
from perennial.storage.generations import Generation, Generations
from perennial.storage.objects import open_objects
from schemas.records import Record, SchemaAccepted, Span

_FOLDER = "schema_proposal"


class SchemaProposal(Record):
    """A proposal of `perennial schema diff` for a span.

    Attributes:
        name: Tells this proposal from any other, also from one with the same contents.
        span: The span that the schema would agree with.
        before: SHA-256 of the schema.pbtxt that it changes.
        text: The whole of schema.pbtxt after the change.
        changes: The change in words, one line each.
        accepted: What a person decided, once that is so.
    """

    name: str
    span: Span
    before: str
    text: str
    changes: list[str]
    accepted: SchemaAccepted | None = None


def keep_proposal(
    project: Project, span: Span, before: str, after: str, changes: list[str]
) -> None:
    """Keeps a proposal in the root, in place of the one before; without changes it removes that.

    Args:
        project: The project.
        span: The span that was measured.
        before: The text of schema.pbtxt that the proposal changes.
        after: The text that it proposes.
        changes: The change in words, one line each.

    Raises:
        ProjectError: Somebody else made or accepted a proposal at the same time.
    """
    proposals = _proposals(project)
    before_it = proposals.newest()
    if not changes:
        if before_it.data:
            _replace(proposals, before_it, b"")
        return
    proposal = SchemaProposal(
        name=secrets.token_hex(8), span=span, before=_digest(before), text=after, changes=changes
    )
    _replace(proposals, before_it, proposal.model_dump_json().encode())


def accept_proposal(project: Project, why: str) -> SchemaProposal:
    """Applies the kept proposal, and records in the ledger who did so and why.

    Raises:
        ProjectError: There is no proposal, schema.pbtxt has changed since, the label or the key
            would be lost, or somebody else changes the proposal at the same time.
        LedgerError: The ledger cannot be written; the next command goes on from there.
    """
    from perennial.schema.diff import find_refusal

    proposals = _proposals(project)
    kept = proposals.newest()
    proposal = _parse(proposals, kept)
    command = f"`perennial schema diff {project.folder}`"
    if proposal is None:
        raise ProjectError(
            proposals.place,
            "must hold a proposal to accept",
            "none",
            f"Make one with {command}.",
        )
    if _digest(read_schema_text(project.schema_path)) != proposal.before:
        received = (
            f"{SCHEMA_FILE} changed after the proposal for span {proposal.span.name} was made"
        )
        raise ProjectError(
            SCHEMA_FILE, "must be as it was reviewed", received, f"Look again with {command}."
        )
    settings = project.settings
    refusal = find_refusal(
        to_schema(proposal.text, "the proposed schema"),
        settings.label,
        settings.data.key,
        project.label_types,
    )
    if refusal:
        remedy = "Correct the span and land it again, or change project.yaml."
        raise ProjectError(
            "the proposed schema",
            f"must keep the label ({' or '.join(project.label_types)}) and the key",
            refusal,
            remedy,
        )
    decided = SchemaAccepted(
        before=proposal.before,
        after=_digest(proposal.text),
        changes=proposal.changes,
        by=person(),
        why=why,
    )
    accepted = proposal.model_copy(update={"accepted": decided})
    _replace(proposals, kept, accepted.model_dump_json().encode())
    finish_acceptance(project)
    return accepted


def finish_acceptance(project: Project) -> SchemaProposal | None:
    """Finishes an acceptance that was interrupted, if there is one; gives it.

    A package is never changed: of a project that is read from one, the acceptance is finished once
    its package has the accepted schema.

    Raises:
        LedgerError: The ledger cannot be written.
    """
    proposals = _proposals(project)
    kept = proposals.newest()
    proposal = _parse(proposals, kept)
    if proposal is None or proposal.accepted is None:
        return None
    if project.package is not None and project.schema_digest() != _digest(proposal.text):
        return None
    # A file that is neither the one before nor the one after was written by a person since: it
    # stays.
    if project.schema_path.exists() and project.schema_digest() == proposal.before:
        publish_text(proposal.text, project.schema_path)
    key = f"schema:{proposal.accepted.after}:{proposal.name}"
    Ledger(project.ledger_url).append_once(NewEvent("schema_accepted", proposal.accepted, key=key))
    proposals.add(kept, b"")  # unless somebody else finished it, or proposed something new, since
    return proposal


def read_proposal(project: Project) -> SchemaProposal | None:
    """Reads the proposal that is kept, if there is one.

    Raises:
        ProjectError: It was damaged.
    """
    proposals = _proposals(project)
    return _parse(proposals, proposals.newest())


def _proposals(project: Project) -> Generations:
    return Generations(open_objects(project.root), _FOLDER)


def _parse(proposals: Generations, kept: Generation) -> SchemaProposal | None:
    if not kept.data:
        return None
    try:
        return SchemaProposal.model_validate_json(kept.data)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        remedy = "Remove it, then run `perennial schema diff` again."
        raise ProjectError(proposals.place, "must hold a proposal", problem, remedy) from None


def _replace(proposals: Generations, kept: Generation, data: bytes) -> None:
    """Writes a proposal in place of the one that was read.

    Raises:
        ProjectError: There is another one since.
    """
    if not proposals.add(kept, data):
        raise ProjectError(
            "the proposed schema",
            "must be changed by one person at a time",
            "somebody else made or accepted a proposal at the same time",
            "Look again with `perennial schema diff`.",
        )


def _digest(text: str) -> str:
    """Computes the SHA-256 that a file of this text has."""
    return hashlib.sha256(text.encode()).hexdigest()
