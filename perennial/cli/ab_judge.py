"""`perennial ab judge`: what follows for the test that is running, and doing it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.arguments import AsJson, Folder

if TYPE_CHECKING:
    from schemas.records import ABVerdict

CHAMPION_STAYS = 3
_WORDS = {
    "promote": "is decided, the challenger is promoted",
    "roll_back": "is decided, the challenger is taken back",
    "wait": "goes on",
    "expire": "has run for its longest duration",
    "invalid": "is invalid",
}


def judge(
    folder: Folder,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what follows, and do not do it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Decide the running test by what the log and the labels say; safe to ask at any time.

    Exit code 0: the challenger is promoted, the test goes on, or none is running; 3: the test
    ended and the champion stays.
    """
    from datetime import UTC, datetime

    from perennial.ledger.events import Ledger
    from perennial.production.ab_evidence import act_on, judge_test
    from perennial.production.arms import find_arms
    from perennial.project import load_project

    project = load_project(folder)
    ledger = Ledger(project.ledger_url)
    try:
        arms = find_arms(ledger)
        if arms is None or arms.challenger is None:
            typer.echo(json.dumps({"test": None}) if as_json else "no test is running")
            return
        tested = arms.challenger
        verdict = judge_test(project, ledger, tested, datetime.now(UTC))
        acted = not dry_run and act_on(project, ledger, tested, verdict)
    finally:
        ledger.close()
    typer.echo(_to_json(tested.test, verdict, acted) if as_json else _line(tested.test, verdict))
    if verdict.action in ("roll_back", "expire", "invalid"):
        raise typer.Exit(CHAMPION_STAYS)


def _line(test: int, verdict: ABVerdict) -> str:
    return f"test {test} {_WORDS[verdict.action]}: {'; '.join(verdict.reasons)}"


def _to_json(test: int, verdict: ABVerdict, acted: bool) -> str:
    # The record writes infinite bounds as text, which JSON has no numbers for.
    return json.dumps({"test": test, "acted": acted, **json.loads(verdict.model_dump_json())})
