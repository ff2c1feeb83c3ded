"""A proposed change of the schema, kept by `perennial schema diff`, applied by `accept`.

File and ledger must not disagree, whenever a command is killed. What a person decided is therefore
first written into the proposal, then into schema.pbtxt, then into the ledger; the next command
finishes what was begun.
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
from schemas.records import Record, SchemaAccepted, Span

PROPOSAL_FILE = "schema_proposal.json"


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
    """Keeps a proposal in place of the one before; one without changes only removes that.

    Args:
        project: The project.
        span: The span that was measured.
        before: The text of schema.pbtxt that the proposal changes.
        after: The text that it proposes.
        changes: The change in words, one line each.
    """
    path = project.state / PROPOSAL_FILE
    if not changes:
        path.unlink(missing_ok=True)
        return
    proposal = SchemaProposal(
        name=secrets.token_hex(8), span=span, before=_digest(before), text=after, changes=changes
    )
    publish_text(proposal.model_dump_json(indent=2), path)


def accept_proposal(project: Project, why: str) -> SchemaProposal:
    """Applies the kept proposal, and records in the ledger who did so and why.

    Raises:
        ProjectError: There is no proposal, schema.pbtxt has changed since, or the label or the key
            would be lost.
        LedgerError: The ledger cannot be written; the next command goes on from there.
    """
    from perennial.schema.diff import find_refusal

    proposal = read_proposal(project)
    command = f"`perennial schema diff {project.folder}`"
    if proposal is None:
        raise ProjectError(
            str(project.state / PROPOSAL_FILE),
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
        to_schema(proposal.text, PROPOSAL_FILE),
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
    publish_text(accepted.model_dump_json(indent=2), project.state / PROPOSAL_FILE)
    finish_acceptance(project)
    return accepted


def finish_acceptance(project: Project) -> SchemaProposal | None:
    """Finishes an acceptance that was interrupted, if there is one; gives it.

    Raises:
        LedgerError: The ledger cannot be written.
    """
    proposal = read_proposal(project)
    if proposal is None or proposal.accepted is None:
        return None
    # A file that is neither the one before nor the one after was written by a person since: it
    # stays.
    if project.schema_path.exists() and project.schema_digest() == proposal.before:
        publish_text(proposal.text, project.schema_path)
    key = f"schema:{proposal.accepted.after}:{proposal.name}"
    Ledger(project.ledger_url).append_once(NewEvent("schema_accepted", proposal.accepted, key=key))
    (project.state / PROPOSAL_FILE).unlink(missing_ok=True)
    return proposal


def read_proposal(project: Project) -> SchemaProposal | None:
    """Reads the proposal that is kept, if there is one.

    Raises:
        ProjectError: Its file was damaged.
    """
    path = project.state / PROPOSAL_FILE
    try:
        return SchemaProposal.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        remedy = "Remove it, then run `perennial schema diff` again."
        raise ProjectError(str(path), "must hold a proposal", problem, remedy) from None


def _digest(text: str) -> str:
    """Computes the SHA-256 that a file of this text has."""
    return hashlib.sha256(text.encode()).hexdigest()
