"""Windows and projects for the tests of analysis and transformation.

Small tables, written as steps before do.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from perennial.data.examples import split_of, split_prefix, to_example
from perennial.project import Project, load_project
from schemas.project import SPLITS
from schemas.records import CheckedSpan, Span

Rows = list[dict[str, Any]]

SETTINGS = """\
name: rides
label: tipped
data:
  spans: data/{SPAN}.csv
  key: id
"""

SCHEMA = """\
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "tipped" type: INT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "fare" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "miles" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "payment" type: BYTES presence { min_fraction: 1 } shape {} }
default_environment: "TRAINING"
default_environment: "SERVING"
tensor_representation_group {
  key: ""
  value {
    tensor_representation {
      key: "miles"
      value { dense_tensor { column_name: "miles" shape {} default_value { float_value: -1 } } }
    }
  }
}
"""

HEAD = (
    "import tensorflow as tf\nimport tensorflow_transform as tft\n\n\ndef "
    "preprocessing_fn(inputs):\n"
)
TAIL = "\n\ndef build_model(transform_output):\n    raise RuntimeError\n"


def make_rides(folder: Path, body: str, schema: str = SCHEMA) -> Project:
    """A project whose `preprocessing_fn` has the given lines as its body."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.yaml").write_text(SETTINGS)
    (folder / "schema.pbtxt").write_text(schema)
    (folder / "expectations.json").write_text('{"expectations": []}')
    return with_body(load_project(folder), body)


def with_body(project: Project, body: str) -> Project:
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    project.module_path.write_text(HEAD + lines + TAIL)
    return load_project(project.folder)


def rides(span: int, count: int = 120) -> Rows:
    """Rows of a span: some without `miles`, words that only some spans have."""
    draw = random.Random(span)
    words = ["cash", "card", "card", f"voucher {span % 3}", "ünïcode"]
    return [
        {
            "id": f"{span}-{number}",
            "tipped": draw.randrange(2),
            "fare": round(math.exp(draw.gauss(2 + span / 10, 1)), 2),
            "miles": draw.uniform(0, 20) if draw.random() < 0.8 else None,
            "payment": draw.choice(words),
        }
        for number in range(count)
    ]


def write_span(
    window: Path, project: Project, name: str, rows: Rows, content: str | None = None
) -> Path:
    """Writes a span as `check_examples` leaves it.

    Without rows in a split it has no files of the split.
    """
    import tensorflow as tf

    splits: dict[str, Rows] = {split: [] for split in SPLITS}
    for row in rows:
        splits[split_of(str(row[project.settings.data.key]), project.settings.data.splits)].append(
            row
        )
    for split, chosen in splits.items():
        prefix = Path(split_prefix(window / name, split))
        if chosen:
            prefix.parent.mkdir(parents=True, exist_ok=True)
            with tf.io.TFRecordWriter(f"{prefix}-00000-of-00001.gz", "GZIP") as writer:
                for row in chosen:
                    writer.write(to_example(row).SerializeToString(deterministic=True))
    counts = {split: len(chosen) for split, chosen in splits.items()}
    return record_span(window, name, counts, content or f"content-of-{name}")


def record_span(window: Path, name: str, counts: dict[str, int], content: str) -> Path:
    record = CheckedSpan(
        span=Span(name=name, version=1, uri=f"data/{name}.csv", fingerprint=content),
        columns=["id"],
        rows=counts,
        labels={},
        set_aside=0,
        checks=[],
        content=content,
    )
    record.write(window / name)
    return window / name


def write_rides(window: Path, project: Project, *spans: int) -> Path:
    for span in spans:
        write_span(window, project, f"day-{span}", rides(span))
    return window


def spoil(window: Path, *spans: int) -> None:
    """Overwrites the examples of spans, so that whoever reads them fails."""
    for span in spans:
        for path in (window / f"day-{span}").glob("Split-*/*"):
            path.write_bytes(b"not a gzip file")
