"""Dates move on from span to span; their hour, their weekday and their distance do not."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from components.validate_data.date_parts import checks_of_dates, date_parts, part_name
from components.validate_data.step import validate_data
from perennial.data.distributions import KNOTS, Distribution, write_distributions
from perennial.data.statistics import write_statistics
from schemas.records import Check
from tests.components.validate_data.spans import (
    SCHEMA,
    categories,
    make_project,
    make_record,
    numbers,
)

STARTED = text_format.Parse('name: "started" type: BYTES', schema_pb2.Feature())
PARTS = ("time of day", "weekday", "distance to the span's date", "date")


def texts(moments):
    counts = {}
    for moment in moments:
        counts[moment] = counts.get(moment, 0) + 1
    return categories(counts)


def rides(day, rows=400, shift=0.0, days=1):
    """The starts of the rides of a day (or of several, from it on), most of them in the afternoon."""
    rng = np.random.default_rng(int(day[-2:]))
    hours = np.clip(rng.normal(15, 3, rows), 0, 23.9) + shift + 24 * rng.integers(0, days, rows)
    start = datetime.fromisoformat(day)
    return texts(f"{start + timedelta(hours=float(hour)):%Y-%m-%d %H:%M:%S}" for hour in hours)


@pytest.mark.parametrize(
    ("span", "values", "parts"),
    [
        ("2026-01-05", rides("2026-01-05"), ("time of day", "distance to the span's date", "date")),
        ("7", rides("2026-01-05"), ("date",)),  # a part of a day has other hours than the next
        ("7", rides("2026-01-05", days=3), ("time of day", "date")),
        ("2026-01-05", rides("2026-01-05", days=7), PARTS),
        ("2026-01-05", categories({"2026-13-45": 3}), ()),
        ("2026-01-05", Distribution(9, 0, 9, {"2026-01-05": 9}, None, None, capped=True), ()),
    ],
)
def test_which_parts_mean_something(span, values, parts):
    assert set(date_parts(STARTED, values, span)) == {part_name("started", one) for one in parts}


def test_parts_are_those_of_the_dates():
    values = texts(["2026-01-06 06:30", "2026-01-06T18:00:00+02:00", "2026-01-11"])
    parts = date_parts(STARTED, values, "2026-01-05")
    clock, distance = (
        parts[part_name("started", part)] for part in ("time of day", "distance to the span's date")
    )
    assert clock.knots.tolist() == [0, 6.5, 18] and clock.cumulative.tolist() == [1, 2, 3]
    assert distance.knots.tolist() == [1.25, 1.75, 6]
    assert (clock.examples, clock.missing, clock.total) == (3, 0, 3)


def test_seconds_of_a_time_domain_are_dates_too():
    one = text_format.Parse(
        'name: "at" type: INT time_domain { integer_format: UNIX_SECONDS }', schema_pb2.Feature()
    )
    values = numbers([1767657600 + 3600 * hour for hour in range(24)])  # 2026-01-06
    clock = date_parts(one, values, "2026-01-06")[part_name("at", "time of day")]
    assert clock.knots.tolist() == list(range(24)) and clock.examples == 24


def test_quantiles_count_for_no_more_examples_than_there_are():
    one = text_format.Parse(
        'name: "at" type: INT time_domain { integer_format: UNIX_SECONDS }', schema_pb2.Feature()
    )
    knots = 1767657600 + 60.0 * np.arange(KNOTS)
    values = Distribution(100_000, 0, 100_000, None, knots, np.linspace(1, 100_000, KNOTS))
    clock = date_parts(one, values, "2026-01-06")[part_name("at", "time of day")]
    assert clock.examples == KNOTS and clock.cumulative[-1] == pytest.approx(KNOTS)


@given(st.integers(7, 40), st.integers(0, 6))
def test_weekdays_are_counted_by_how_often_the_calendar_has_them(days, first):
    """A row a day is the same of each weekday, however many of each the span covers."""
    start = datetime(2026, 1, 5) + timedelta(days=first)
    values = texts(f"{start + timedelta(days=day):%Y-%m-%d}" for day in range(days))
    weekdays = date_parts(STARTED, values, "x")[part_name("started", "weekday")]
    assert len(weekdays.counts) == 7 and max(weekdays.counts.values()) - min(
        weekdays.counts.values()
    ) <= (1 if days % 7 else 0)


def test_dates_that_stay_where_they_are_are_no_drift_of_the_distance():
    def check(part, verdict):
        name = part_name("started", part)
        return Check(kind="drift", subject=name, verdict=verdict, message="x", severity="warn")

    for still, verdict in (("passed", "passed"), ("failed", "failed")):
        checks = checks_of_dates(
            [check("distance to the span's date", "failed"), check("date", still)]
        )
        assert [(one.subject, one.verdict) for one in checks] == [("started", verdict)]
        assert checks[0].message == "its distance to the span's date: x"


def _land(project, folder, name, values):
    """What the steps before would leave of a day."""
    from tensorflow_metadata.proto.v0 import statistics_pb2

    record = make_record(
        project,
        name,
        columns=["id", "started", "label"],
        rows={"train": 300, "eval": 50, "test": 50},
    )
    record.write(folder / "checked")
    for split in record.rows:
        (folder / "checked" / f"Split-{split}").mkdir(parents=True)
    summary = statistics_pb2.DatasetFeatureStatisticsList(
        datasets=[statistics_pb2.DatasetFeatureStatistics(num_examples=400)]
    )
    parts = {"started": values, "label": categories({"0": 300, "1": 100})}
    write_statistics(summary, parts, folder / "statistics", project.schema)
    write_distributions(parts, folder / "statistics")


@pytest.mark.parametrize(("shift", "drifts"), [(8.0, True), (0.0, False)])
def test_a_clock_that_moved_by_eight_hours_is_drift(tmp_path, shift, drifts):
    schema = SCHEMA.replace('name: "fare" type: FLOAT', 'name: "started" type: BYTES').replace(
        'feature { name: "zone" type: BYTES presence { min_count: 1 } shape {} }', ""
    )
    schema = schema.replace(" shape {}", "")  # the statistics of these spans name no features
    project = make_project(
        tmp_path / "project", {"anomalies": "warn"}, schema, spans="data/{YYYY}-{MM}-{DD}.csv"
    )
    days = [f"2026-01-0{day}" for day in range(1, 6)]
    for day in days:
        _land(project, tmp_path / day, day, rides(day, shift=shift if day == days[-1] else 0.0))
    outputs = (tmp_path / name for name in ("window", "measured", "validation"))
    result = validate_data(
        project,
        [days[-1]],
        [],
        [tmp_path / day / "checked" for day in days],
        [tmp_path / day / "statistics" for day in days],
        *outputs,
    )
    checks = [check for check in result.spans[-1].checks if check.subject == "started"]
    compared = [check for check in checks if check.kind == "drift"]
    assert result.accepted and compared and all(check.distance is not None for check in compared)
    failed = {check.message.partition(":")[0] for check in compared if check.verdict == "failed"}
    assert failed == ({"its time of day", "its distance to the span's date"} if drifts else set())
