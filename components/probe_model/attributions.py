"""Integrated gradients of the candidate: on average over the sample, and of single examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from components.probe_model.gradients import Explanations, average_example, explain
from components.probe_model.probed_model import ProbeData
from perennial.errors import describe_error
from perennial.evaluation.prediction_table import KEY, LABEL, SPAN, Array, class_scores
from perennial.export.gradient_functions import Halves
from schemas.project import ExplainSettings
from schemas.records import Attribution, Evaluation, ExampleAttribution

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf

# More make the record larger than anyone reads: an image of 256 by 256 points is shown whole.
_MOST_ELEMENTS = 65_536
_NO_HALVES = (
    "integrated gradients: no gradient reaches the transformed features, because the model was "
    "saved by a run_fn or reads a sparse feature"
)


@dataclass(frozen=True)
class Attributed:
    """The shares of features in the answers, and what could not be computed."""

    attributions: list[Attribution] = field(default_factory=list)
    explained: list[ExampleAttribution] = field(default_factory=list)
    not_probed: list[str] = field(default_factory=list)


def attribute(data: ProbeData, sample: Array, settings: ExplainSettings) -> Attributed:
    """Attributes the answers to the transformed features: of a sample, and of the worst mistakes.

    Args:
        data: The candidate and the test split.
        sample: Row numbers of the sample; its average is the baseline of all.
        settings: Steps of the path, and how many single examples are explained.
    """
    import tensorflow as tf

    halves = data.model.halves
    if halves is None:
        return Attributed(not_probed=[_NO_HALVES])
    try:
        return _attribute(data, halves, sample, settings)
    except (
        tf.errors.OpError,
        LookupError,
    ) as error:  # an operation without a gradient is a LookupError
        return Attributed(not_probed=[f"integrated gradients: {describe_error(error)}"])


def choose_single(evaluation: Evaluation, table: pd.DataFrame, most: int) -> Array:
    """Chooses examples to explain, by row number: the worst mistakes, then the most uncertain.

    They are int [at most `most`].

    Of values there is no uncertainty: the largest errors follow.
    """
    rows = {
        (str(span), str(key)): row
        for row, (span, key) in enumerate(zip(table[SPAN], table[KEY], strict=True))
    }
    mistakes = [rows[mistake.span, mistake.key] for mistake in evaluation.mistakes]
    if evaluation.tasks[0].kind == "regression":
        rest = np.argsort(
            -np.abs(table[evaluation.candidate].to_numpy() - table[LABEL].to_numpy()), kind="stable"
        )
    else:
        rest = np.argsort(class_scores(table, evaluation.candidate).max(axis=1), kind="stable")
    return np.array(list(dict.fromkeys([*mistakes, *rest.tolist()]))[:most], dtype=np.int64)


def _attribute(
    data: ProbeData, halves: Halves, sample: Array, settings: ExplainSettings
) -> Attributed:
    features = _transform(halves, data.records(sample))
    baseline = average_example(features)

    def answer(transformed: dict[str, tf.Tensor]) -> tf.Tensor:
        return halves.predict(transformed)[data.model.outputs[data.task]]

    average = explain(answer, features, baseline, settings.steps)
    rows = choose_single(data.evaluation, data.table, settings.single)
    explained: list[ExampleAttribution] = []
    if len(rows):
        single = explain(answer, _transform(halves, data.records(rows)), baseline, settings.steps)
        explained = _name_rows(data, rows, single)
    return Attributed(_summarise(average), explained, _notes(average))


def _transform(halves: Halves, records: list[bytes]) -> dict[str, Array]:
    import tensorflow as tf

    return {name: values.numpy() for name, values in halves.transform(tf.constant(records)).items()}


def _summarise(explanations: Explanations) -> list[Attribution]:
    """Computes the mean absolute attribution of each feature, the greatest first."""
    means = {name: float(np.abs(total).mean()) for name, total in explanations.totals.items()}
    names = sorted(means, key=lambda name: -means[name])
    return [_summary(name, means[name], explanations.attributions[name]) for name in names]


def _summary(name: str, mean: float, parts: Array) -> Attribution:
    count = parts[0].size
    if not 1 < count <= _MOST_ELEMENTS:
        return Attribution(feature=name, mean=mean)
    elements = np.abs(parts).mean(axis=0).reshape(-1).tolist()
    return Attribution(feature=name, mean=mean, elements=elements, shape=list(parts.shape[1:]))


def _notes(explanations: Explanations) -> list[str]:
    notes = [
        f"integrated gradients of `{name}`: it is no real number, so it was set to its commonest "
        "value instead"
        for name in explanations.occluded
    ]
    large = [
        name for name, parts in explanations.attributions.items() if parts[0].size > _MOST_ELEMENTS
    ]
    return notes + [
        f"the elements of `{name}` one by one: there are more than {_MOST_ELEMENTS:,}"
        for name in large
    ]


def _name_rows(
    data: ProbeData, rows: Array, explanations: Explanations
) -> list[ExampleAttribution]:
    predicted = data.table[data.evaluation.candidate]
    totals, gaps = explanations.totals, explanations.gaps
    return [
        ExampleAttribution(
            key=str(data.table[KEY].iloc[row]),
            span=str(data.table[SPAN].iloc[row]),
            label=data.table[LABEL].iloc[row].item(),
            predicted=_predicted(predicted.iloc[row]),
            output=float(explanations.outputs[place]),
            baseline=float(explanations.baselines[place]),
            attributions=_of_row(totals, place),
            gap=float(gaps[place]),
        )
        for place, row in enumerate(rows)
    ]


def _predicted(prediction: Array | float) -> int | float:
    """Gives the predicted class, or the value."""
    return int(np.argmax(prediction)) if np.ndim(prediction) else float(prediction)


def _of_row(totals: Mapping[str, Array], place: int) -> dict[str, float]:
    return {name: float(values[place]) for name, values in totals.items()}
