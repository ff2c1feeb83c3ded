"""Trains projects on a small sample, as they were at a base and as they are, and compares both.

    python sample.py BASE COMPARISON.MD PROJECT...

A project's `ci.yaml` has the settings of the sample: they come before those of its project.yaml.
The base's model becomes the champion of a ledger of its own, and the model of HEAD is the candidate
that the gate compares with it. Nothing of production is read or written, so a pull request from
anywhere may be tried.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

OVERLAY = "ci.yaml"
# Of production: a sample has its own.
PLACES = ("root", "ledger", "registry")
VARIABLES = ("PERENNIAL_ROOT", "PERENNIAL_LEDGER_URL", "PERENNIAL_REGISTRY_URI")
SOURCE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """The end of a run: its exit code, and what `perennial run --json` tells."""

    code: int
    outcome: str
    reasons: list[str]
    version: str | None


@dataclass
class Section:
    """What the comparison says of a project; `code` is that of its run, 0 without one."""

    project: str
    heading: str
    code: int = 0
    notes: list[str] = field(default_factory=list)
    comparison: str = ""

    def write(self) -> str:
        """Writes it as Markdown; what a run printed cannot end the block that it stands in."""
        lines = [f"### `{self.project}`: {self.heading}", *(f"- {note}" for note in self.notes)]
        if self.comparison:
            lines += ["", "````text", self.comparison.replace("````", ""), "````"]
        return "\n".join(lines)


def main(base: str, target: str, *projects: str) -> int:
    """Writes the comparison of all projects; gives the exit code of the first run that failed."""
    commit = git("rev-parse", "--short", f"{base}^{{commit}}").decode().strip()
    sections: list[Section] = []
    for project in projects:
        with tempfile.TemporaryDirectory() as scratch:
            sections.append(try_project(project, base, Path(scratch)))
        text = "\n\n".join(section.write() for section in sections)
        heading = f"## Perennial: trained on a sample, compared with {commit}"
        Path(target).write_text(f"{heading}\n\n{text}\n", encoding="utf-8")
    print(Path(target).read_text(encoding="utf-8"))
    return next((section.code for section in sections if section.code), 0)


def try_project(project: str, base: str, scratch: Path) -> Section:
    """Trains one project as it was and as it is."""
    here = Path(project).resolve()
    if not has_changed(project, base):
        return Section(project, "not trained", notes=["it is as the base has it"])
    if not (here / OVERLAY).is_file():
        note = f"{OVERLAY} must name a sample; there is none, so nothing was compared"
        return Section(project, "not trained", notes=[note])
    overlay = yaml.safe_load((here / OVERLAY).read_text(encoding="utf-8")) or {}
    folder = scratch / "project"
    champion = None
    notes = []
    if exists_at(base, project):
        check_out(base, project, folder)
        write_settings(folder, overlay, here)
        champion = run(folder)
        if champion.outcome != "promoted":
            notes.append(f"not compared: the run of the base ended as {champion.outcome}")
            notes += champion.reasons
    else:
        notes.append("not compared: the base has no such project")
    check_out("HEAD", project, folder)
    write_settings(folder, overlay, here)
    candidate = run(folder, "--retrain")
    section = Section(project, candidate.outcome, candidate.code, candidate.reasons + notes)
    if champion and champion.outcome == "promoted" and candidate.version:
        versions = [str(champion.version), candidate.version]
        compared = perennial("compare", str(folder), *versions)
        section.comparison = compared.stdout.strip()
    return section


def has_changed(project: str, base: str) -> bool:
    """Tells whether a project, or the repository's Perennial, differs from the base."""
    top = Path(git("rev-parse", "--show-toplevel").decode().strip()).resolve()
    paths = [project]
    if top in SOURCE.parents:
        paths.append(str(SOURCE))
    command = ["git", "diff", "--quiet", base, "HEAD", "--", *paths]
    return subprocess.run(command, check=False).returncode != 0


def exists_at(commit: str, project: str) -> bool:
    """Tells whether a commit has a project in this folder."""
    command = ["git", "cat-file", "-e", f"{commit}:./{project}/project.yaml"]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0


def check_out(commit: str, project: str, folder: Path) -> None:
    """Writes the files that a commit has of a project, and removes those of another commit."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        if path.name != ".perennial":
            subprocess.run(["rm", "-r", "--", str(path)], check=True)
    archive = git("archive", "--format=tar", f"{commit}:./{project}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)


def write_settings(folder: Path, overlay: Mapping[str, Any], here: Path) -> None:
    """Writes project.yaml with the settings of the sample; its files lie where they lie here."""
    path = folder / "project.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in PLACES}
    merged = merge(kept, overlay)
    merged["state"] = ".perennial"
    data = merged["data"]
    for name in ("spans", "unlabelled", "serving_log"):
        if data.get(name) and "://" not in data[name]:
            data[name] = str(here / data[name])
    path.write_text(yaml.safe_dump(merged), encoding="utf-8")


def merge(settings: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Gives settings in which those of the overlay come first, section by section."""
    merged = dict(settings)
    for name, value in overlay.items():
        before = merged.get(name)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[name] = merge(before, value) if both else value
    return merged


def run(folder: Path, *options: str) -> Ended:
    """Runs the loop once; its progress goes to the job's log."""
    done = perennial("run", str(folder), "--json", *options)
    lines = done.stdout.splitlines()
    if not lines:
        return Ended(done.returncode or 1, "failed", ["the run did not begin"], None)
    ended = json.loads(lines[-1])
    return Ended(done.returncode, ended["outcome"], ended["reasons"], ended["version"])


def perennial(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of Perennial, far from production's ledger, registry and root."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    command = ["perennial", *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)


def git(*arguments: str) -> bytes:
    """Runs a command of git; gives what it prints."""
    return subprocess.run(["git", *arguments], check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
