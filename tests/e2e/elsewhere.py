"""What a task does on a machine that knows a project by its package alone; run as a program."""

from __future__ import annotations

import sys

from components.ingest_examples.step import ingest_examples
from components.stored_step import StoredStep
from perennial.ledger.events import Ledger
from perennial.project import load_project
from perennial.spans.landed import find_landed
from perennial.spans.window import number_versions


def ingest_newest(reference: str) -> None:
    """Ingests the newest span that has landed, and prints where its scratch files were."""
    project = load_project(reference)
    judged = Ledger(project.ledger_url).judged_spans()
    span = number_versions(find_landed(project), judged)[-1]
    digest = project.digest_of("ingest_examples")
    with StoredStep(reference, "ingest_examples", digest) as step:
        assert not step.is_kept(span.model_dump(mode="json"))
        ingest_examples(step.project, span, step.output("examples"))
        step.publish()
    print(project.folder)


if __name__ == "__main__":
    ingest_newest(sys.argv[1])
