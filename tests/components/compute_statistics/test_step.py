"""Statistics are those of the landed table, exactly."""

from __future__ import annotations

import pandas as pd
import pytest

from components.compute_statistics.step import compute_statistics
from perennial.data.distributions import read_distributions
from perennial.data.statistics import read_statistics
from perennial.data.worker_files import Workers
from tests.components.compute_statistics.jobs import find_anomaly
from tests.forked import forked
from tests.perennial.data.merge_jobs import measure

DAY = "2026-01-01"


@pytest.fixture(scope="module")
def features(chain):
    (dataset,) = read_statistics(chain.statistics(DAY)).datasets
    return dataset.num_examples, {feature.path.step[0]: feature for feature in dataset.features}


@pytest.fixture(scope="module")
def landed(chain):
    return pd.read_parquet(chain.project.folder / "data" / f"{DAY}.parquet")


def test_every_split_is_measured_together(features, landed):
    assert features[0] == len(landed) and set(features[1]) == set(landed.columns)


def test_numbers(features, landed):
    image, pixels = features[1]["image"].num_stats, landed["image"].explode().astype(float)
    assert (image.min, image.max) == (pixels.min(), pixels.max())
    assert (
        image.common_stats.tot_num_values == len(pixels) and image.num_zeros == (pixels == 0).sum()
    )
    assert image.mean == pytest.approx(pixels.mean()) and image.std_dev == pytest.approx(
        pixels.std(ddof=0)
    )
    assert (image.common_stats.num_non_missing, image.common_stats.num_missing) == (len(landed), 0)


def test_categories_are_counted_one_by_one(features, landed):
    """The schema says that the label is a category: its values have no order and no mean."""
    label = features[1]["label"].string_stats
    counts = {int(bucket.label): bucket.sample_count for bucket in label.rank_histogram.buckets}
    assert (
        counts == landed["label"].value_counts().to_dict()
        and label.unique == landed["label"].nunique()
    )


def test_span_without_examples(tmp_path, chain):
    (tmp_path / "examples").mkdir()
    forked(
        compute_statistics,
        tmp_path / "examples",
        Workers.of(chain.project),
        tmp_path / "statistics",
        chain.project.schema,
    )
    (dataset,) = read_statistics(tmp_path / "statistics").datasets
    assert dataset.num_examples == 0 and not dataset.features
    assert read_distributions(tmp_path / "statistics") == {}


def test_distributions_are_of_the_same_examples(chain, features, landed):
    found = read_distributions(chain.statistics(DAY))
    assert found["label"].counts == {
        str(k): v for k, v in landed["label"].value_counts().to_dict().items()
    }
    assert set(found) == set(features[1]) and {part.examples for part in found.values()} == {
        len(landed)
    }


def test_every_value_outside_a_domain_is_reported(tmp_path):
    """TFDV by itself looks at the thousand commonest values only, and says nothing of the others."""
    rows = [{"code": f"code {number}"} for number in range(1100)] * 2 + [{"code": "unheard of"}]
    assert "unheard of" in forked(
        find_anomaly, rows, [f"code {number}" for number in range(1100)], tmp_path
    )


def test_a_label_that_the_schema_calls_a_number_is_counted_by_class(tmp_path):
    statistics, counted = forked(
        measure, [{"label": 2}, {"label": 0}, {"label": 2}], tmp_path, None, ("label",)
    )
    assert counted["label"].counts == {"0": 1, "2": 2} and statistics.datasets[0].features[
        0
    ].HasField("num_stats")


def test_the_same_examples_give_the_same_bytes(tmp_path):
    rows = [{"word": word, "number": float(len(word))} for word in ("b", "a", "ccc")]
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        forked(measure, rows, folder)
    for name in ("FeatureStats.pb", "distributions.npz"):
        assert len({(folder / "statistics" / name).read_bytes() for folder in folders}) == 1
