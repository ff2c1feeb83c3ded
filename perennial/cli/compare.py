"""`perennial compare`: two versions side by side, and what the gate found where it compared them directly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from perennial.cli.explain import to_json
from perennial.cli.formats import plain_console, print_lines
from perennial.project import Project
from perennial.registry.version_history import VersionStory, read_story
from perennial.registry.versions import Registry
from perennial.tasks import metric_words
from schemas.records import CANDIDATE, OVERALL, Difference, Evaluation

Pair = tuple[VersionStory, VersionStory]


@dataclass(frozen=True)
class Row:
    """A parameter or metric of both versions; None: the version has none."""

    name: str
    first: str | None
    second: str | None

    @property
    def same(self) -> bool:
        """Whether both have the same."""
        return self.first == self.second


@dataclass(frozen=True)
class Direct:
    """The comparison that a run made of two versions on the same examples: `candidate` faced `champion`."""

    candidate: str
    champion: str
    differences: list[Difference]


def tell_comparison(project: Project, first: str, second: str, as_json: bool) -> None:
    """Prints two versions beside each other.

    Raises:
        RegistryError: One of them does not exist.
    """
    registry = Registry(project)
    pair = read_story(project, registry, first), read_story(project, registry, second)
    if as_json:
        typer.echo(json.dumps(_pair_json(pair), indent=2))
    else:
        print_lines(plain_console(), describe_pair(pair))


def describe_pair(pair: Pair) -> Iterator[str]:
    """The comparison in lines; those that begin at the margin are headings."""
    one, two = (story.version.version for story in pair)
    yield f"version {one} beside version {two}"
    yield "spans"
    yield from (f"  {line}" for line in describe_spans(pair))
    yield "parameters"
    parameters = rows_of(pair[0].logged.parameters, pair[1].logged.parameters)
    yield from (f"  {row.name}: {row.first or 'none'} | {row.second or 'none'}" for row in parameters if not row.same)
    yield f"  {sum(row.same for row in parameters)} more are the same"
    yield "metrics on each one's own test examples"
    yield f"  {tell_examples(pair)}"
    for row in rows_of(test_metrics(pair[0]), test_metrics(pair[1])):
        yield f"  {row.name}: {row.first or 'none'} | {row.second or 'none'}"
    yield "direct comparison, on the same examples"
    yield from (f"  {line}" for line in describe_direct(direct_comparison(pair), one, two))


def describe_spans(pair: Pair) -> Iterator[str]:
    """Which spans both were trained on, and which only one of them."""
    names = [{f"{each.span.name}@{each.span.version}" for each in story.spans} for story in pair]
    lists = ((names[0] & names[1], "both"), *((names[i] - names[1 - i], f"only {_name(pair[i])}") for i in (0, 1)))
    for found, who in lists:
        yield f"{who}: {', '.join(sorted(found)) or 'none'}"


def rows_of(first: dict[str, str], second: dict[str, str]) -> list[Row]:
    """Both versions' values by name."""
    return [Row(name, first.get(name), second.get(name)) for name in sorted(first.keys() | second.keys())]


def test_metrics(story: VersionStory) -> dict[str, str]:
    """The metrics on the test split, as text."""
    return {name: f"{value:.4f}" for name, value in story.logged.metrics.items() if name.startswith("test_")}


def same_examples(pair: Pair) -> bool | None:
    """Whether both were measured on the same test examples; None: that is not known."""
    first, second = (story.evaluation for story in pair)
    digests = [_rules(story) for story in pair]
    if first is None or second is None or not all(digests):
        return None
    return (_tested(first), digests[0]) == (_tested(second), digests[1])


def tell_examples(pair: Pair) -> str:
    """Whether the metrics can be set beside each other, in words."""
    same = same_examples(pair)
    if same is None:
        return "it is not known whether both were measured on the same test examples"
    if same:
        return "both were measured on the same test examples"
    counts = [f"{_name(story)} on {_count(story)}" for story in pair]
    return f"different test examples: {', '.join(counts)}; a difference here need not be one of the models"


def direct_comparison(pair: Pair) -> Direct | None:
    """What a run found where one of the two was the candidate and the other the champion."""
    for candidate, champion in (pair, pair[::-1]):
        judged = candidate.evaluation
        if judged and judged.champion and judged.champion.digest == champion.version.digest:
            found = [d for d in judged.differences if d.model == CANDIDATE and (d.slice == OVERALL or d.view)]
            return Direct(candidate.version.version, champion.version.version, found)
    return None


def describe_direct(direct: Direct | None, one: str, two: str) -> Iterator[str]:
    """The direct comparison in lines."""
    if direct is None:
        yield f"versions {one} and {two} were never judged against each other"
    elif not direct.differences:
        yield f"version {direct.candidate} was to be judged against version {direct.champion}, but nothing was compared"
    else:
        yield f"version {direct.candidate} minus version {direct.champion}; positive: {direct.candidate} is better"
        yield from (_difference(each) for each in direct.differences)


def _difference(found: Difference) -> str:
    where = "" if found.slice == OVERALL else f" on {found.slice}"
    interval = f"{found.confidence:.0%} interval {found.low:+.4f} to {found.high:+.4f}"
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        interval = "no interval"
    name = f"{found.task} {metric_words(found.metric)}{where}"
    return f"{name}: {found.value:+.4f}, {interval} ({found.examples} examples)"


def _pair_json(pair: Pair) -> dict[str, Any]:
    direct = direct_comparison(pair)
    shown = None
    if direct is not None:
        differences = [each.model_dump(mode="json") for each in direct.differences]
        shown = {"candidate": direct.candidate, "champion": direct.champion, "differences": differences}
    return {"versions": [to_json(story) for story in pair], "same_examples": same_examples(pair), "direct": shown}


def _name(story: VersionStory) -> str:
    return f"version {story.version.version}"


def _count(story: VersionStory) -> str:
    assert story.evaluation is not None
    names = [span.name for span in story.evaluation.window]
    reach = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}" if names else "no span"
    return f"{story.evaluation.examples} of {reach}"


def _tested(evaluation: Evaluation) -> tuple[object, ...]:
    return evaluation.examples, sorted((span.name, span.fingerprint) for span in evaluation.window)


def _rules(story: VersionStory) -> tuple[str, str] | None:
    """Digests of what decides which examples a window gives, and which of them are tested on."""
    selection = story.selection
    return (selection.data_digest, selection.rules_digest) if selection else None
