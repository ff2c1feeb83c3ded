"""Checks which Beam runner a project names, with which options; Beam itself is imported late."""

from __future__ import annotations

import argparse
import difflib
import io
from contextlib import redirect_stderr
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError
from perennial.settings import SETTINGS_FILE

if TYPE_CHECKING:
    from schemas.project import BeamSettings

LOCAL_RUNNER = "DirectRunner"
_OPTIONS = f"{SETTINGS_FILE}: beam.options"
_EXPECTED = "must be pipeline options of Apache Beam, each as `--name=value`"
# Without them a runner begins only to say that it lacks them. Source: what each runner of
# apache_beam 2.77 asks for before it sends a pipeline.
_REQUIRED = {
    "PortableRunner": ("job_endpoint",),
    "DataflowRunner": ("project", "region", "temp_location"),
}


def workers_are_elsewhere(settings: BeamSettings) -> bool:
    """Tells whether the workers may be on other machines than the step.

    LOOPBACK has a cluster call back to workers beside the step. A runner on this machine with
    workers in containers or in processes of their own counts as one with workers elsewhere.
    """
    if settings.runner == LOCAL_RUNNER:
        return False
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    parser.add_argument("--environment_type", nargs="?", default="", const="")
    known, _ = parser.parse_known_args(list(settings.options))
    return settings.runner == "DataflowRunner" or known.environment_type.upper() != "LOOPBACK"


def check_beam(settings: BeamSettings) -> None:
    """Checks the options against those of the installed Beam.

    Raises:
        ProjectError: One is not known, has a value that it cannot have, or is missing.
    """
    if type(settings)() == settings:  # spares importing Beam
        return
    runner = next((each for each in settings.options if each.partition("=")[0] == "--runner"), None)
    if runner is not None:
        raise ProjectError(
            _OPTIONS, "must not name the runner", runner, "Name it in beam.runner instead."
        )
    for before, option in pairwise(["=", *settings.options]):
        if not option.startswith("--") and (not before.startswith("--") or "=" in before):
            raise ProjectError(_OPTIONS, _EXPECTED, option, "Write --name=value.")
    known = _parse(settings.options, retain_unknown_options=False)
    every = _parse(settings.options, retain_unknown_options=True)
    for name in sorted(every.keys() - known.keys()):
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"Write --{near[0]}, or take it out." if near else "Take it out, or correct it."
        raise ProjectError(_OPTIONS, _EXPECTED, f"--{name}", remedy)
    for name in _REQUIRED.get(settings.runner, ()):
        if known[name] is None:
            expected, remedy = f"must have --{name}, which {settings.runner} needs", "Add it."
            raise ProjectError(_OPTIONS, expected, "no such option", remedy)


def _parse(options: list[str], retain_unknown_options: bool) -> dict[str, Any]:
    """Parses options as Beam does.

    Raises:
        ProjectError: An option has a value that it cannot have.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    printed = io.StringIO()  # argparse prints its message, and ends the process
    try:
        with redirect_stderr(printed):
            parsed: dict[str, Any] = PipelineOptions(options).get_all_options(
                retain_unknown_options=retain_unknown_options
            )
            return parsed
    except SystemExit:
        lines = printed.getvalue().strip().splitlines() or ["a value that Beam refuses"]
        raise ProjectError(
            _OPTIONS,
            "must have values that Apache Beam takes",
            lines[-1].rpartition("error: ")[2],
            "Correct the value.",
        ) from None
