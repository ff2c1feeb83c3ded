"""The table that all judgement is a function of: label, slice keys and scores of every model, one row an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.examples import as_text, decode_records, read_records, split_files
from perennial.modelling.export import load_examples_signature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_BATCH = 1024
SPAN = "span"
LABEL = "label"
KEY = "key"


def predict_table(
    window: Path, models: Mapping[str, Path], label: str, key: str, slices: Sequence[str]
) -> pd.DataFrame:
    """Predicts every example of the window's test split once with every model.

    Gives a table with the columns `span`, `key`, `label` (int), one `slice:<feature>` for each slice (text), and one
    for each model with its class probabilities, float32 [classes].
    """
    import numpy as np
    import pandas as pd

    parts = [_read_span(folder, label, key, slices) for folder in sorted(window.iterdir()) if folder.is_dir()]
    records = [record for _, found in parts for record in found]
    table = pd.concat([frame for frame, _ in parts], ignore_index=True)
    for name, folder in models.items() if records else ():
        scores = predict_scores(folder, records)
        table[name] = list(scores.astype(np.float32))
    return table


def predict_scores(saved_model: Path, records: Sequence[bytes]) -> np.ndarray[Any, Any]:
    """Class probabilities of serialised examples, float32 [n, classes], through the served graph."""
    import numpy as np
    import tensorflow as tf

    serve = load_examples_signature(saved_model)
    if not records:
        return np.zeros((0, 1), dtype=np.float32)
    batches = [records[start : start + _BATCH] for start in range(0, len(records), _BATCH)]
    return np.concatenate([serve(examples=tf.constant(batch))["probabilities"].numpy() for batch in batches])


def _read_span(folder: Path, label: str, key: str, slices: Sequence[str]) -> tuple[pd.DataFrame, list[bytes]]:
    import pandas as pd

    records = list(read_records(split_files(folder, "test")))
    if not records:
        return pd.DataFrame(), []
    batch = decode_records(records)

    def column(name: str) -> list[Any]:
        if name not in batch.schema.names:  # an optional feature that no example of this span has
            return [None] * len(records)
        values = batch.column(batch.schema.names.index(name)).to_pylist()
        return [as_text(value[0]) if value else None for value in values]

    columns = {SPAN: [folder.name] * len(records), KEY: [str(value) for value in column(key)], LABEL: column(label)}
    return pd.DataFrame(columns | {f"slice:{name}": [str(value) for value in column(name)] for name in slices}), records
