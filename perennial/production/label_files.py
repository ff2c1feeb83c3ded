"""Files that go to people who label, and come back from them: Label Studio's, and CSV.

What comes back becomes a span: the features of the log, the key, and the label that a person gave.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.data.examples import as_text
from perennial.errors import DataError
from perennial.production.queued_labels import PREDICTION, SCORE, Queue
from perennial.readers.columns import columns_of
from perennial.readers.convert import Conformer
from perennial.storage.atomic import publish_bytes, publish_text
from schemas.prediction_log import FEATURE, KEY

if TYPE_CHECKING:
    from perennial.project import Project

_FORMS = "Label Studio's JSON or JSON-MIN, or CSV"
_LISTED = 3


@dataclass(frozen=True)
class ImportedLabels:
    """The span that a file of labels became.

    Attributes:
        path: The span's file.
        rows: How many labels it holds.
        unlabelled: How many examples of the file have no label.
        unknown: Keys that no queue holds, so that their features are not known.
    """

    path: Path
    rows: int
    unlabelled: int
    unknown: list[str]


def check_output(path: Path) -> None:
    """Checks that a file's ending says how it is to be written.

    Raises:
        DataError: It has another ending.
    """
    if path.suffix not in (".json", ".csv"):
        raise DataError(
            "--output", "must end in .json (Label Studio) or .csv", path.name, "Choose one of them."
        )


def write_tasks(project: Project, queue: Queue, path: Path) -> None:
    """Writes a queue for people: `.json` as Label Studio imports it, `.csv` as a table."""
    rows = list(_rows(project, queue))
    if path.suffix == ".json":
        publish_text(json.dumps([{"data": row} for row in rows], indent=1) + "\n", path)
    else:
        publish_text(_csv([{**row, project.settings.label: ""} for row in rows]), path)


def import_labels(
    project: Project,
    queues: Sequence[Queue],
    answers: Path,
    path: Path,
    added: Mapping[str, str],
) -> ImportedLabels:
    """Makes a span's file of the labels that people gave.

    Args:
        project: The project.
        queues: All queues, which hold the features of the examples.
        answers: What the people's tool exported.
        path: The file of the span; its ending chooses the format: `.parquet`, `.csv`, `.jsonl`.
        added: Columns with one value for all rows, which the log does not hold.

    Raises:
        DataError: A file is of another form, a label is none, no label is known, or the span has
            landed already.
    """
    if path.exists():
        remedy = "Choose another --span; to replace it, remove the file first."
        raise DataError(str(path), "must not be there yet", "a span that has landed", remedy)
    label, key = project.settings.label, project.settings.data.key
    known = columns_of(project.schema)
    conformer = Conformer(
        {name: known[name] for name in (label, *added) if name in known},
        project.settings.data.max_value_mb,
    )
    by_key = {row[key]: row for queue in queues for row in _features(project, queue)}
    rows, unlabelled, unknown = [], 0, []
    for place, given, answer in read_answers(answers, key, label):
        if answer is None:
            unlabelled += 1
        elif given not in by_key:
            unknown.append(given)
        else:
            values, reasons = conformer.conform({label: answer, **added})
            if reasons:
                raise DataError(
                    f"{answers}, {place}", reasons[0].expected, reasons[0].received, "Correct it."
                )
            texts = {name: as_text(value) for name, value in values.items()}
            rows.append({**by_key[given], **texts})
    if not rows:
        received = f"{unlabelled} examples without a label, {len(unknown)} with unknown keys"
        remedy = "Label some, or give the file that belongs to this project's queues."
        raise DataError(str(answers), "must hold labels of queued examples", received, remedy)
    _write_span(rows, path)
    return ImportedLabels(path, len(rows), unlabelled, unknown)


def read_answers(
    path: Path, key: str, label: str
) -> Iterator[tuple[str, str, str | int | float | None]]:
    """Reads what people answered: place in the file, key, and the label; None: they gave none.

    Raises:
        DataError: The file is of no form that is known, or names no keys.
    """
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                given = _of(row, key, f"line {number}", path)
                yield f"line {number}", given, (row.get(label) or "").strip() or None
        return
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(str(path), f"must be {_FORMS}", error, "Export it again.") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(str(path), f"must be {_FORMS}", "JSON that is no list", "Export it again.")
    for number, task in enumerate(tasks):
        place = f"task {number}"
        if "annotations" in task:
            data = task.get("data")
            given = _of(data if isinstance(data, dict) else {}, key, place, path)
            yield place, given, _annotated(task["annotations"], f"{path}, {place}")
        else:
            yield place, _of(task, key, place, path), _chosen(task.get(label))


def span_path(project: Project, name: str) -> Path:
    """Gives the file that a span lands as, by `data.spans` of the settings.

    Raises:
        DataError: The name does not fit the pattern, or spans are no local files of one name.
    """
    from perennial.spans.landed import fill_pattern

    return Path(fill_pattern(project.folder, project.settings.data.spans or "", name))


def _rows(project: Project, queue: Queue) -> Iterator[dict[str, Any]]:
    """Gives what people see of each example: key, features, and what the champion answers."""
    answers = queue.table[PREDICTION].to_pylist()
    sure = queue.table[SCORE].to_pylist()
    for row, answer, score in zip(_features(project, queue), answers, sure, strict=True):
        shown = {} if score is None or score != score else {SCORE: round(score, 4)}
        yield {**row, PREDICTION: answer, **shown}


def _features(project: Project, queue: Queue) -> Iterator[dict[str, Any]]:
    names = [name for name in queue.table.column_names if name.startswith(FEATURE)]
    for row in queue.table.select([KEY, *names]).to_pylist():
        features = {name.removeprefix(FEATURE): row[name] for name in names}
        yield {project.settings.data.key: row[KEY], **features}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(
        stream, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        lists = {name: json.dumps(each) for name, each in row.items() if isinstance(each, list)}
        writer.writerow({**row, **lists})
    return stream.getvalue()


def _annotated(annotations: Any, where: str) -> str | int | float | None:
    """Gives the newest answer that was not cancelled, of Label Studio's annotations."""
    kept = [each for each in annotations if not each.get("was_cancelled") and each.get("result")]
    if not kept:
        return None
    value = max(kept, key=lambda each: each.get("updated_at") or "")["result"][0].get("value", {})
    for kind in ("choices", "number", "text", "rating"):
        if kind in value:
            return _chosen(value[kind])
    raise DataError(
        where,
        "must be labelled by choices, a number, a text or a rating",
        ", ".join(value) or "nothing",
        "Choose such a control in Label Studio.",
    )


def _chosen(value: Any) -> str | int | float | None:
    """Gives a label of what may be a list of one."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str | int | float) and first != "" else None


def _of(row: Mapping[str, Any], key: str, place: str, path: Path) -> str:
    given = row.get(key)
    if given is None or given == "":
        named = ", ".join(list(map(str, row))[:_LISTED])
        raise DataError(
            f"{path}, {place}",
            f"must have the key of its example, `{key}`",
            f"{named}, …" if named else "nothing",
            "Export the tasks that `perennial labels next` wrote.",
        )
    return str(given)


def _write_span(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(rows)), sink)
        publish_bytes(sink.getvalue().to_pybytes(), path)
    elif path.suffix == ".jsonl":
        publish_text("".join(json.dumps(row) + "\n" for row in rows), path)
    elif path.suffix == ".csv":
        publish_text(_csv(rows), path)
    else:
        raise DataError(
            str(path),
            "must end in .parquet, .csv or .jsonl to be written",
            path.suffix or "no ending",
            "Name another file with --output, and bring it to where spans land.",
        )
