"""What is looked at: the candidate and the test split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.probe_model.candidate import Candidate
from components.probe_model.examined import Examined
from perennial.evaluation.prediction_table import GROUP, LABEL, Array, Examples
from schemas.records import Evaluation

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Probed:
    """The candidate, the test split, and the table of the first task with the same rows."""

    candidate: Candidate
    evaluation: Evaluation
    examples: Examples
    table: pd.DataFrame

    def records(self, rows: Array) -> list[bytes]:
        """Some of the examples, serialised, by their row numbers."""
        return [self.examples.records[row] for row in rows]

    def examined(self, rows: Array) -> Examined:
        """Some of the examples as arrays.

        Raises:
            TrainingError: The model does not take one.
        """
        columns, named = self.candidate.columns(self.records(rows)), self.examples.named.iloc[rows]
        return Examined(
            self.candidate.predict,
            columns,
            self.table[LABEL].to_numpy()[rows],
            self.candidate.latent(columns),
            named[GROUP].to_numpy() if GROUP in named else None,
        )
