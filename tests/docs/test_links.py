"""Every link and every command in the prose leads somewhere, and no path of one machine is in the repository."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from perennial.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "perennial" / "cli" / "template"
LINK = re.compile(r"!?\[(?:[^\]\[]|!?\[[^\]]*\]\([^)]*\))*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
# A folder of a person or of a build machine, as a path that begins a word.
MACHINE_PATH = re.compile(
    r"(?<![\w.$}/~-])/(?:home|Users|root|work|workspace|tmp|mnt|private|builds)/[\w.-]+"
)


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout")
    return sorted(path for name in done.stdout.splitlines() if (path := ROOT / name).is_file())


def links(page: Path) -> list[str]:
    """Link targets of a page, outside blocks of code."""
    return LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken(page: Path, top: Path = ROOT) -> list[str]:
    """Links of a page to files or anchors that do not exist below `top`."""
    found = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        missing = not target.exists() or not target.is_relative_to(top)
        if missing or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


def test_links_resolve() -> None:
    pages = tracked("*.md")
    assert ROOT / "README.md" in pages
    assert {str(page.relative_to(ROOT)): found for page in pages if (found := broken(page))} == {}


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = ROOT / "docs" / "adr" / "0002-local-runner.md"
    assert (
        "2-on-one-machine-kfplocal-orchestrates-and-steps-are-forked-from-a-warm-process"
        in anchors(page)
    )
    other = tmp_path / "page.md"
    other.write_text(
        "[a](no.md) [b](#none) ![c](no.png)\n\n# One `two`\n\n[d](#one-two) "
        "[e](https://example.org)\n"
    )
    assert broken(other, tmp_path) == ["no.md", "#none", "no.png"]


def test_no_path_of_one_machine() -> None:
    kinds = (
        "*.md",
        "*.py",
        "*.txt",
        "*.yaml",
        "*.yml",
        "*.toml",
        "*.sh",
        "*.json",
        "*.html",
        "Makefile",
        ".ci/run",
    )
    found = {}
    for path in tracked(*kinds):
        text = path.read_text(encoding="utf-8")
        made_up = path.is_relative_to(ROOT / "tests")  # tests need paths that are nobody's
        found[str(path.relative_to(ROOT))] = [] if made_up else MACHINE_PATH.findall(text)
        assert str(ROOT) not in text, path
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_machine_paths_are_told_from_others() -> None:
    assert MACHINE_PATH.search("see /home/anna/model") and MACHINE_PATH.search("`/tmp/x`")
    assert not MACHINE_PATH.search(
        "/v1/models/iris:predict or folder/tmp/x or ~/work/x or sqlite:///work"
    )


def documents() -> list[Path]:
    """Pages that tell a person what to type."""
    return [page for page in tracked("*.md") if "adr" not in page.parts] + [
        TEMPLATE / "README.md.txt"
    ]


def test_commands_exist() -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    commands = _names(app) | {
        f"{name} {command}" for name, group in groups.items() for command in _names(group)
    }
    for page in documents():
        used = re.findall(
            r"(?:^ *|`|\$ )perennial ([a-z]+)(?: ([a-z]+))?\b",
            page.read_text("utf-8"),
            re.MULTILINE,
        )
        said = {
            f"{name} {command}" if name in groups else name
            for name, command in used
            if name != "watch" or f"watch {command}" in commands  # else a project follows it
        }
        assert said <= commands, page
    assert set(
        re.findall(r"`perennial (\w+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    ) == _names(app) | set(groups)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for page in documents():
        text = "\n".join(
            re.findall(r"`make [^`]*`|^ *make .*", page.read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert set(re.findall(r"make ([a-z-]+)", text)) <= targets, page


def test_scripts_exist() -> None:
    for page in documents():
        used = re.findall(
            r"^(?:\$ )?python ([\w/.-]+\.py)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert [
            name for name in used if not name.startswith(".demo/") and not (ROOT / name).exists()
        ] == [], page


def test_what_a_change_touches_is_there() -> None:
    """Each file that CONTRIBUTING.md names exists, and holds the constants that it names there."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    items = re.findall(r"^\d\. (.+(?:\n   .+)*)", text, re.MULTILINE)
    assert len(items) > 20
    for item in items:
        quoted = re.findall(r"`([^`\s]+)`", item)
        paths = [ROOT / name for name in quoted if "/" in name and "<" not in name]
        assert [path for path in paths if not path.exists()] == [], item
        constants = [name for name in quoted if re.fullmatch(r"_?[A-Z][A-Z_]{3,}", name)]
        held = "".join(path.read_text(encoding="utf-8") for path in paths if path.suffix == ".py")
        assert [name for name in constants if not re.search(rf"\b{name}\b", held)] == [], item


def _names(commands) -> set[str]:
    return {
        command.name or command.callback.__name__
        for command in commands.registered_commands
        if command.callback
    }
