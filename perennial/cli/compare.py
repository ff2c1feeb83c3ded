"""`perennial compare`: two versions side by side, and how the gate compared them directly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perennial.cli.arguments import AsJson, Folder, load_repaired
from perennial.cli.explain import to_json
from perennial.cli.formats import plain_console, print_lines

if TYPE_CHECKING:
    from perennial.registry.version_history import VersionStory
    from schemas.records import Difference

    Pair = tuple[VersionStory, VersionStory]


@dataclass(frozen=True)
class Row:
    """A parameter or metric of both versions; None where a version has none."""

    name: str
    first: str | None
    second: str | None

    @property
    def same(self) -> bool:
        """Tells whether both have the same value."""
        return self.first == self.second

    def describe(self) -> str:
        """Writes both values in one line."""
        return f"{self.name}: {self.first or 'none'} | {self.second or 'none'}"


@dataclass(frozen=True)
class DirectComparison:
    """Measures of a run in which one version was the candidate and the other the champion."""

    candidate: str
    champion: str
    differences: list[Difference]


def compare(
    folder: Folder,
    first: Annotated[str, typer.Argument(metavar="V1", help="Registry version.")],
    second: Annotated[str, typer.Argument(metavar="V2", help="Another one.")],
    as_json: AsJson = False,
) -> None:
    """Show two versions side by side: spans, parameters, metrics."""
    from perennial.registry.version_history import read_story
    from perennial.registry.versions import Registry

    project = load_repaired(folder)
    registry = Registry(project)
    pair = read_story(project, registry, first), read_story(project, registry, second)
    if as_json:
        typer.echo(json.dumps(_pair_json(pair), indent=2))
    else:
        print_lines(plain_console(), describe_pair(pair))


def describe_pair(pair: Pair) -> Iterator[str]:
    """Describes both versions in lines; those that are not indented are headings."""
    one, two = (story.version.version for story in pair)
    yield f"version {one} beside version {two}"
    yield "spans"
    yield from (f"  {line}" for line in describe_spans(pair))
    yield "parameters"
    parameters = make_rows(pair[0].logged.parameters, pair[1].logged.parameters)
    yield from (f"  {row.describe()}" for row in parameters if not row.same)
    yield f"  {sum(row.same for row in parameters)} more are the same"
    yield "metrics on each one's own test examples"
    yield f"  {describe_examples(pair)}"
    for row in make_rows(test_metrics(pair[0]), test_metrics(pair[1])):
        yield f"  {row.describe()}"
    yield "direct comparison, on the same examples"
    yield from (f"  {line}" for line in describe_direct(find_direct(pair), one, two))


def describe_spans(pair: Pair) -> Iterator[str]:
    """Lists the spans that both were trained on, and those of one of them only."""
    first, second = map(_span_names, pair)
    yield f"both: {', '.join(sorted(first & second)) or 'none'}"
    yield f"only {_name(pair[0])}: {', '.join(sorted(first - second)) or 'none'}"
    yield f"only {_name(pair[1])}: {', '.join(sorted(second - first)) or 'none'}"


def _span_names(story: VersionStory) -> set[str]:
    return {f"{each.span.name}@{each.span.version}" for each in story.spans}


def make_rows(first: dict[str, str], second: dict[str, str]) -> list[Row]:
    """Joins both versions' values by name."""
    names = sorted(first.keys() | second.keys())
    return [Row(name, first.get(name), second.get(name)) for name in names]


def test_metrics(story: VersionStory) -> dict[str, str]:
    """Gives the metrics on the test split, as text."""
    metrics = story.logged.metrics.items()
    return {name: f"{value:.4f}" for name, value in metrics if name.startswith("test_")}


def have_same_examples(pair: Pair) -> bool | None:
    """Tells whether both were measured on the same test examples; None where that is not known."""
    first, second = map(_test_data, pair)
    return None if first is None or second is None else first == second


def _test_data(story: VersionStory) -> tuple[object, ...] | None:
    """Gives all that decides which examples a version was tested on; None where it is not known."""
    evaluation, selection = story.evaluation, story.selection
    if evaluation is None or selection is None:
        return None
    spans = sorted((span.name, span.fingerprint) for span in evaluation.window)
    return evaluation.examples, spans, selection.data_digest, selection.rules_digest


def describe_examples(pair: Pair) -> str:
    """Tells in words whether the metrics of both can be compared."""
    same = have_same_examples(pair)
    if same is None:
        return "it is not known whether both were measured on the same test examples"
    if same:
        return "both were measured on the same test examples"
    counts = ", ".join(f"{_name(story)} on {_count_examples(story)}" for story in pair)
    return f"different test examples: {counts}; a difference here need not be one of the models"


def _count_examples(story: VersionStory) -> str:
    assert story.evaluation is not None
    names = [span.name for span in story.evaluation.window]
    reach = "no span"
    if names:
        reach = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return f"{story.evaluation.examples} of {reach}"


def find_direct(pair: Pair) -> DirectComparison | None:
    """Finds the comparison of a run in which one was the candidate and the other the champion."""
    from schemas.records import CANDIDATE, OVERALL

    for candidate, champion in (pair, pair[::-1]):
        evaluation = candidate.evaluation
        if evaluation is None or evaluation.champion is None:
            continue
        if evaluation.champion.digest == champion.version.digest:
            differences = [
                each
                for each in evaluation.differences
                if each.model == CANDIDATE and (each.slice == OVERALL or each.view)
            ]
            versions = candidate.version.version, champion.version.version
            return DirectComparison(*versions, differences)
    return None


def describe_direct(direct: DirectComparison | None, one: str, two: str) -> Iterator[str]:
    """Describes the direct comparison in lines."""
    if direct is None:
        yield f"versions {one} and {two} were never judged against each other"
        return
    candidate, champion = direct.candidate, direct.champion
    if direct.differences:
        yield f"version {candidate} minus version {champion}; positive: {candidate} is better"
        yield from map(_describe_difference, direct.differences)
    else:
        judged = f"version {candidate} was to be judged against version {champion}"
        yield f"{judged}, but nothing was compared"


def _describe_difference(difference: Difference) -> str:
    from perennial.tasks import metric_words
    from schemas.records import OVERALL

    low, high = difference.low, difference.high
    interval = "no interval"
    if math.isfinite(low) and math.isfinite(high):
        interval = f"{difference.confidence:.0%} interval {low:+.4f} to {high:+.4f}"
    where = "" if difference.slice == OVERALL else f" on {difference.slice}"
    name = f"{difference.task} {metric_words(difference.metric)}{where}"
    return f"{name}: {difference.value:+.4f}, {interval} ({difference.examples} examples)"


def _pair_json(pair: Pair) -> dict[str, Any]:
    direct = find_direct(pair)
    shown = None
    if direct is not None:
        shown = {
            "candidate": direct.candidate,
            "champion": direct.champion,
            "differences": [each.model_dump(mode="json") for each in direct.differences],
        }
    return {
        "versions": [to_json(story) for story in pair],
        "same_examples": have_same_examples(pair),
        "direct": shown,
    }


def _name(story: VersionStory) -> str:
    return f"version {story.version.version}"
