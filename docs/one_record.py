"""The text of docs/one-record.md, from the journey of one digit.

Shows only what every machine gets: training rounds differently from one machine to the next, so scores are shown as the
class they name, and digests of bytes that a library's version decides are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from journey import DIGIT, FeatureStatistics, Journey

from components.validate_serving.step import TOLERANCE
from perennial.data.examples import split_of
from perennial.project import load_project
from schemas.project import SplitSettings
from schemas.records import (
    DecisionMade,
    Deployment,
    Record,
    RegistrationBegun,
    RunEnded,
    RunStarted,
    SpanJudged,
)

ROOT = Path(__file__).resolve().parents[1]
SIDE = 8

INTRODUCTION = """\
# One record: what becomes of a single digit?

```sh
python examples/digits/land.py --days 1
perennial run examples/digits
```

What happens to one handwritten digit, from the file that it lands in to the answer of the server and the ledger.
Nothing here is made up: this page is written by really taking `{digit}` of
[examples/digits](../examples/digits/README.md) through the steps of a first run, and a test does so again and compares.

Left out, because they differ between machines: what depends on the last digits of a trained weight (exact
probabilities, digests of models, which of the instances is the candidate), digests of files that another version
of a library writes with other bytes, and times.
"""


def render(journey: Journey) -> str:
    """The whole page."""
    splits = load_project(ROOT / "examples" / "digits").settings.data.splits
    parts = [
        INTRODUCTION.format(digit=DIGIT),
        *(
            _landing(journey),
            _split(journey, splits),
            _example(journey),
            _statistics(journey),
            _checks(journey),
        ),
        *(
            _features(journey),
            _judged(journey),
            _decision(journey),
            _served(journey),
            _ledger(journey),
        ),
    ]
    return "\n\n".join(map(_wrapped, "\n".join(parts).split("\n\n")))


def _wrapped(paragraph: str) -> str:
    """Prose in lines of equal width; headings, tables and blocks as they are."""
    if not re.match(r"[\w`\[]", paragraph) or "```" in paragraph or paragraph.startswith('{"'):
        return paragraph
    text = textwrap.fill(paragraph, 118, break_long_words=False, break_on_hyphens=False)
    return text + "\n" * paragraph.endswith("\n")


def _landing(journey: Journey) -> str:
    row = journey.row
    text = f"""\
## 1. It lands

{_code("examples/digits/land.py", "land")} writes the labelled images of a day to one Parquet file, here
`{journey.span_file}`: a span. The digit is one of its {sum(journey.split_counts.values())} rows. `image` is 64
numbers, row by row: · is paper (0), 16 is ink.
"""
    table = _table(
        ("column", "value"), [(f"`{name}`", f"`{row[name]}`") for name in ("id", "date", "label")]
    )
    return f"{text}\n{table}\n\n{_block(_grid(row['image']))}\n"


def _split(journey: Journey, splits: SplitSettings) -> str:
    sha = hashlib.sha256(DIGIT.encode()).hexdigest()
    point = int(sha[:16], 16) / 2**64
    counts = ", ".join(f"{count} {split}" for split, count in journey.split_counts.items())
    return f"""\
## 2. Its key decides its split

{_code("perennial/data/examples.py", "split_of")} hashes the key (`data.key`, here `id`), so the digit is in the same
split in every span and every run:

{_block(f"SHA-256({DIGIT}) = {sha[:16]}…  ->  0x{sha[:16]} / 2^64 = {point:.4f}")}

The shares are train {splits.train}, eval {splits.eval}, test {splits.test}: below {splits.train} is train, below
{splits.train + splits.eval:g} is eval, the rest is test. The digit is in **{split_of(DIGIT, splits)}**: no weight is
fitted on it, models are judged on it. The span divides into {counts}.
"""


def _example(journey: Journey) -> str:
    rows = [
        (f"`{name}`", f"`{kind}`", _values(values))
        for name, (kind, values) in journey.example.items()
    ]
    return f"""\
## 3. It becomes a tf.Example

{_code("components/ingest_examples/step.py", "ingest_examples")} reads the file with Beam and writes the digit to
`Split-test/data_tfrecord-*.gz` as a tf.Example ({_code("perennial/data/examples.py", "to_example")}):

{_table(("feature", "kind", "values"), rows)}
"""


def _statistics(journey: Journey) -> str:
    header = ("feature", "examples", "values", "zeros", "least", "greatest", "mean")
    return f"""\
## 4. Its span is measured

{_code("components/compute_statistics/step.py", "compute_statistics")} measures all splits of the span together with
TensorFlow Data Validation, and keeps the distribution of every feature. The one that holds numbers:

{_table(header, [_statistics_row(row) for row in journey.statistics])}
"""


def _checks(journey: Journey) -> str:
    rows = [
        (c.kind.replace("_", " "), f"`{c.subject}`", c.verdict.replace("_", " "), c.message)
        for c in journey.checks
    ]
    passed = sum(check.verdict == "passed" for check in journey.checks)
    return f"""\
## 5. Its span is checked

{_code("components/check_examples/step.py", "check_examples")} holds its rows against
[expectations.json](../examples/digits/expectations.json), before they are measured; a few bad rows would have been set
aside. {_code("components/validate_data/step.py", "validate_data")} holds the span against
[schema.pbtxt](../examples/digits/schema.pbtxt) and earlier spans; a bad one would wait in quarantine.
{passed} of {len(rows)} checks passed and none failed:

{_table(("kind", "subject", "verdict", "what was asked"), rows)}
"""


def _features(journey: Journey) -> str:
    pixels = journey.transformed["pixels"]
    rows = "\n".join(
        "  ".join(f"{value:+.2f}" for value in pixels[start : start + SIDE]) for start in (0, SIDE)
    )
    return f"""\
## 6. It becomes features

{_code("components/analyse_features/step.py", "analyse_features")} takes the mean and the deviation that
`preprocessing_fn` of [model.py](../examples/digits/model.py) asks for from the train split alone, and
{_code("components/transform_features/step.py", "transform_features")} applies it to the window.
Test examples are not transformed on disk: the transform is inside the served model, and there the digit becomes
`pixels`, {len(pixels)} numbers. Its first two rows:

{_block(rows)}
"""


def _judged(journey: Journey) -> str:
    row = journey.judged
    cells = [f"`{row[name]}`" for name in ("span", "key", "label", "slice:label")]
    cells += [_scores(row[model]) for model in journey.models]
    table = _table(("span", "key", "label", "slice:label", *journey.models), [cells])
    return f"""\
## 7. Models are judged on it

{_code("components/stabilise_weights/step.py", "stabilise_weights")} and
{_code("components/train_model/step.py", "train_model")} made {len(journey.models)} instances without it.
{_code("components/evaluate_model/step.py", "evaluate_model")} predicts each test example once with each model, into one
table. Every metric is computed from it. The digit's row:

{table}
"""


def _decision(journey: Journey) -> str:
    criteria = "; ".join(criterion.name for criterion in journey.decision.criteria)
    verdict = "promote" if journey.decision.promote else "keep"
    return f"""\
## 8. The gate decides

{_code("components/decide_promotion/step.py", "decide_promotion")} asked for: {criteria}. It said **{verdict}**, because
{journey.decision.reasons[0]}. What was not compared: {"; ".join(journey.decision.not_compared)}.
"""


def _served(journey: Journey) -> str:
    (prediction,) = journey.response["predictions"]
    assert journey.serving_check.passed
    gap = _largest_gap(prediction["probabilities"], journey.judged[journey.candidate])
    assert gap <= TOLERANCE, gap
    count = len(prediction["probabilities"])
    request = f'{{"instances": [{{"image": [{", ".join(f"{value:g}" for value in journey.row["image"][:4])}, …]}}]}}'
    answer = journey.response | {
        "predictions": [prediction | {"probabilities": f"[… {count} numbers …]"}]
    }
    exchange = f"POST /v1/models/digits:predict\n{request}\n\n{_plain_json(answer)}"
    return f"""\
## 9. The server answers

{_code("components/register_model/step.py", "register_model")} made the candidate version
{journey.response["model_version"]} of the registry,
{_code("components/validate_serving/step.py", "validate_serving")} asked the real server about
{journey.serving_check.requests} test examples, and {_code("components/push_model/step.py", "push_model")} recorded the
deployment. The server that follows the ledger ({_code("serving/server.py", "serve")}), asked about the digit:

{_block(exchange)}

Its probabilities are those of the candidate's column in the table, to within {TOLERANCE:g}.
"""


def _ledger(journey: Journey) -> str:
    rows = [(str(event.number), f"`{event.kind}`", _tell(event.body)) for event in journey.events]
    return f"""\
## 10. What the ledger holds

{len(rows)} events, appended in this order ({_code("perennial/ledger/events.py", "append")}). The last two were
appended in one transaction by {_code("components/conclude_run/step.py", "conclude_run")}: from here on the span is
judged, and no run takes it for new again.

{_table(("event", "kind", "what it says"), rows)}
"""


def _tell(body: Record) -> str:
    """Gives what an event says, without what differs between machines."""
    match body:
        case RunStarted(selection=selection):
            window = ", ".join(f"{span.name} (version {span.version})" for span in selection.window)
            champion = selection.champion.version if selection.champion else "none"
            return f"run `{selection.run}` works on {window}, new: {', '.join(selection.new_spans)}; champion: {champion}"
        case DecisionMade(decision=decision, version=version):
            return f"version {version}: {'promote' if decision.promote else 'keep'}, {decision.reasons[0]}"
        case Deployment(version=version, action=action, by=by, why=why):
            return f"version {version} serves: {action} by {by}, {why}"
        case SpanJudged(span=span, rows=rows):
            return f"span {span.name} version {span.version}, {rows} rows"
        case RunEnded(outcome=outcome, version=version, champion=champion):
            return f"{outcome}: version {version}, the champion is version {champion}"
        case RegistrationBegun():
            return "the candidate is being registered"
    raise TypeError(type(body).__name__)


def _statistics_row(row: FeatureStatistics) -> Sequence[str]:
    counts = (row.examples, row.values, row.zeros)
    return (
        f"`{row.name}`",
        *(f"{count:,}" for count in counts),
        f"{row.low:g}",
        f"{row.high:g}",
        f"{row.mean:.2f}",
    )


def _scores(scores: Any) -> str:
    """The class that the scores name; how sure they are differs between machines."""
    best = int(scores.argmax())
    return f"{len(scores)} probabilities: class {best} has {'more' if scores[best] > 0.5 else 'less'} than half"


def _largest_gap(scores: Iterable[float], others: Iterable[float]) -> float:
    return max(abs(score - other) for score, other in zip(scores, others, strict=True))


def _code(path: str, function: str) -> str:
    """A link to where a function is defined."""
    if not re.search(
        rf"^ *def {function}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE
    ):
        raise LookupError(f"{path} must define {function}")
    return f"[`{function}`](../{path})"


def _grid(image: Sequence[float]) -> str:
    """The 64 pixels as 8 rows."""
    rows = [image[start : start + SIDE] for start in range(0, len(image), SIDE)]
    return "\n".join("".join(f"{value:4g}" if value else "   ·" for value in row) for row in rows)


def _values(values: Sequence[Any]) -> str:
    plain = [value.decode() if isinstance(value, bytes) else f"{value:g}" for value in values]
    more = f", … ({len(plain)} values)" if len(plain) > SIDE else ""
    return f"`{', '.join(plain[:SIDE])}`{more}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _block(text: str) -> str:
    return f"```text\n{text}\n```"


def _plain_json(answer: dict[str, Any]) -> str:
    """JSON with the placeholder for numbers as itself, not as a string."""
    return re.sub(r'"(\[….*?…\])"', r"\1", json.dumps(answer, ensure_ascii=False))
