"""Measures batch prediction beside a bare loop over the same SavedModel, above 100,000 rows.

TFX's own taxi model, trained for a moment, on the taxi rows repeated, in a Parquet file, with the
same batch size. The loop gets its arrays made and throws its answers away; ours reads the file,
checks every value, predicts and writes a file. Both go in turn, and the rates are of processor
seconds too, because other work on the machine does not change those as much.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from _figures import TAXI_CSV, Figure, conclude, print_table, skip_without

LEAST_RATIO = 0.8
GREATEST_GROWTH = 100  # MB of peak memory that three times the rows may add
ROWS, ROUNDS = 240_000, 3
TAXI = Path(__file__).parents[1] / "examples" / "taxi"


@dataclass(frozen=True)
class Took:
    """Seconds of one round: on the clock, and of all processors."""

    wall: float
    processor: float


def main() -> int:
    """Measures and prints the table."""
    from perennial.tfx_compat import prepare_process

    skip_without(TAXI_CSV)
    began = time.monotonic()
    prepare_process()
    with tempfile.TemporaryDirectory() as scratch:
        project = train(Path(scratch) / "taxi")
        small, large = (
            write_rows(project, Path(scratch) / f"{rows}.parquet", rows)
            for rows in (ROWS // 3, ROWS)
        )
        predict(project, small)
        before = peak()
        predict(project, large)
        grown = peak() - before
        loop = bare_loop(project, large)
        rounds = [(measure(lambda: predict(project, large)), measure(loop)) for _ in range(ROUNDS)]
    rows = []
    for name, costs in zip(
        ("perennial predict", "bare loop"), zip(*rounds, strict=True), strict=True
    ):
        wall, processor = (
            median(took.wall for took in costs),
            median(took.processor for took in costs),
        )
        rows.append((name, f"{ROWS / wall:,.0f}", f"{ROWS / processor:,.0f}"))
    print_table((f"{ROWS:,} rows", "rows/s", "rows per processor second"), rows)
    figures = [
        Figure(
            "beside a bare loop",
            median(bare.wall / ours.wall for ours, bare in rounds),
            at_least=LEAST_RATIO,
        ),
        Figure("more at peak for three times the rows", grown, at_most=GREATEST_GROWTH, unit=" MB"),
    ]
    return conclude("predict", figures, began)


def train(folder: Path) -> Any:
    """A copy of the taxi example with a champion."""
    from perennial.project import load_project

    shutil.copytree(TAXI, folder, ignore=shutil.ignore_patterns(".perennial", "data"))
    settings = (folder / "project.yaml").read_text(encoding="utf-8")
    brief = settings.replace("train_steps: 2000", "train_steps: 50").replace(
        "floors: {log_loss: 0.4}", "floors: {}\n  trivial: warn"
    )
    (folder / "project.yaml").write_text(brief, encoding="utf-8")
    land = [sys.executable, "land.py", "--months", "6", "--csv", str(TAXI_CSV)]
    subprocess.run(land, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        [str(Path(sys.executable).with_name("perennial")), "run", str(folder)], check=True
    )
    return load_project(str(folder))


def write_rows(project: Any, path: Path, rows: int) -> Path:
    """The landed rows, again and again, with the types that the model takes."""
    import numpy as np
    import pandas as pd

    landed = pd.concat(
        pd.read_csv(file) for file in sorted((project.folder / "data").glob("*.csv"))
    )
    for column in landed.select_dtypes("number"):
        if project_dtype(project, column) == "int64":
            landed[column] = landed[column].astype("Int64")
    landed.iloc[np.resize(np.arange(len(landed)), rows)].to_parquet(path, index=False)
    return path


def project_dtype(project: Any, column: str) -> str | None:
    """The type of a feature that the model takes; None: it takes no such feature."""
    from perennial.export.saved_model import serving_specs

    spec = serving_specs(project.schema).get(column)
    return None if spec is None else str(spec.dtype.name)


def predict(project: Any, data: Path) -> None:
    """Ours."""
    from components.predict_batch.step import predict_batch

    predict_batch(project, data, data.with_suffix(".predictions.parquet"))


def bare_loop(project: Any, data: Path) -> Callable[[], None]:
    """Makes a function that calls the SavedModel on every batch of a file in memory."""
    import pyarrow.parquet as pq
    import tensorflow as tf

    from components.predict_batch.step import BATCH_ROWS
    from perennial.ledger.events import Ledger
    from perennial.registry.versions import Registry
    from serving.inputs import from_v1
    from serving.runtime import load_model

    champion = Ledger(project.ledger_url).champion()
    assert champion is not None
    registry = Registry(project)
    folder = registry.fetch(registry.version(champion.version))
    features = load_model("taxi", champion.version, folder, champion.digest).features
    names = {feature.name for feature in features}
    batches = []
    for batch in pq.ParquetFile(data).iter_batches(batch_size=BATCH_ROWS):
        rows = [
            {name: value for name, value in row.items() if name in names}
            for row in batch.to_pylist()
        ]
        batches.append(from_v1({"instances": rows}, features))

    def loop() -> None:
        owner = tf.saved_model.load(str(folder))
        serve = owner.signatures["serving_default"]
        for arrays in batches:
            answer = serve(**{name: tf.constant(array) for name, array in arrays.items()})
            for tensor in answer.values():
                tensor.numpy()

    return loop


def measure(work: Callable[[], None]) -> Took:
    """Seconds that a call takes."""
    began, used = time.perf_counter(), sum(os.times()[:2])
    work()
    return Took(time.perf_counter() - began, sum(os.times()[:2]) - used)


def peak() -> float:
    """Peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
