"""Dates: the same as Python's own calendar, for any date; what is no date is told from what is."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.perennial.features.jobs import apply, apply_all

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moments(count):
    draw = random.Random(3)
    first, last = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
    moments = [
        first + timedelta(seconds=draw.randrange(int((last - first).total_seconds())))
        for _ in range(count)
    ]
    edges = [
        (1900, 2, 28),
        (1900, 3, 1),
        (2000, 2, 29),
        (2024, 2, 29),
        (2025, 12, 31),
        (1969, 12, 31),
        (1, 1, 2),
    ]
    return [*moments, *(datetime(*edge, 23, 59, 59, tzinfo=UTC) for edge in edges)]


def _seconds(moment):
    return (moment - EPOCH) // timedelta(seconds=1)


def test_parts_are_those_of_pythons_calendar():
    moments = _moments(2000)
    found = apply("date_parts", [_seconds(moment) for moment in moments])
    assert found["year"] == [moment.year for moment in moments]
    assert found["month"] == [moment.month for moment in moments]
    assert found["day"] == [moment.day for moment in moments]
    assert found["weekday"] == [moment.weekday() for moment in moments]
    assert found["hour"] == [moment.hour for moment in moments]


def test_parts_of_local_time():
    moments, zone = _moments(200), timezone(timedelta(hours=5, minutes=30))
    moments = [moment for moment in moments if moment.year < 9999]
    found = apply("date_parts", [_seconds(moment) for moment in moments], utc_offset_hours=5.5)
    assert found["hour"] == [moment.astimezone(zone).hour for moment in moments]
    assert found["day"] == [moment.astimezone(zone).day for moment in moments]


def test_texts_are_read_as_python_reads_them():
    draw = random.Random(5)
    zones = [UTC, *(timezone(timedelta(minutes=minutes)) for minutes in (-720, -210, 60, 345, 840))]
    moments = [
        moment.astimezone(draw.choice(zones)) for moment in _moments(1000) if 2 < moment.year < 9999
    ]
    texts = [moment.isoformat(sep=draw.choice("T ")) for moment in moments]
    texts += [f"{moment:%Y%m%dT}" for moment in moments[:1]]
    found = apply("epoch_seconds", texts, default=-7)
    assert found == [*(_seconds(moment) for moment in moments), -7]


FORMS = {
    "2026-01-31": datetime(2026, 1, 31, tzinfo=UTC),
    "2026-01-31T12:30": datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
    "2026-01-31t12:30:59z": datetime(2026, 1, 31, 12, 30, 59, tzinfo=UTC),
    "2026-01-31T12:30:59.999": datetime(2026, 1, 31, 12, 30, 59, tzinfo=UTC),
    "2026-01-31T12:30:59,5+0130": datetime(2026, 1, 31, 11, 0, 59, tzinfo=UTC),
    "2026-01-31 12:30-01": datetime(2026, 1, 31, 13, 30, tzinfo=UTC),
    "2024-02-29": datetime(2024, 2, 29, tzinfo=UTC),
}
NO_DATES = [
    "", "yesterday", "31.01.2026", "2026-1-31", "2026-13-01", "2026-00-10", "2026-02-29", "1900-02-29", "2026-04-31",
    "2026-01-00", "2026-01-31T24:00", "2026-01-31T12:60", "2026-01-31T12:30:60", "2026-01-31T", "2026-01-31T12",
    "2026-01-31T12:30+25:00", " 2026-01-31", "2026-01-31Z", "２０２６-01-31", "2026-01-31\n",
]  # fmt: skip


def test_forms_of_a_date():
    found = apply("epoch_seconds", list(FORMS))
    assert dict(zip(FORMS, found, strict=True)) == {
        text: _seconds(moment) for text, moment in FORMS.items()
    }


def test_what_is_no_date_gets_the_default():
    found = apply("epoch_seconds", NO_DATES, default=-1)
    assert dict(zip(NO_DATES, found, strict=True)) == dict.fromkeys(NO_DATES, -1)


def test_a_circle_closes():
    hours = list(range(25))
    sine, cosine = apply("cyclic", hours, 24)
    assert sine == pytest.approx([math.sin(2 * math.pi * hour / 24) for hour in hours], abs=1e-6)
    assert cosine == pytest.approx([math.cos(2 * math.pi * hour / 24) for hour in hours], abs=1e-6)
    assert (sine[24], cosine[24]) == (sine[0], cosine[0])


def test_epoch_seconds_keep_their_place_on_the_circle():
    now = 1_767_225_600  # float32 would be off by up to 64 seconds
    sine, _ = apply("cyclic", [now + 7, 7], 60)
    assert sine[0] == pytest.approx(sine[1], abs=1e-6)


def test_cyclic_parts_start_at_the_first_month_day_and_hour():
    monday = datetime(2024, 1, 1, tzinfo=UTC)
    found = apply("cyclic_date_parts", [_seconds(monday)])
    assert sorted(found) == sorted(
        f"{part}_{of}" for part in ("hour", "weekday", "day", "month") for of in ("sin", "cos")
    )
    for name, values in found.items():
        assert values == pytest.approx([0.0 if name.endswith("sin") else 1.0], abs=1e-6)


def test_what_is_missing_stays_missing():
    seconds, parts, circle = apply_all(
        [
            ("epoch_seconds", (["1970-01-02", None, "x"],), {"default": 5}),
            ("date_parts", ([None, 3600, None],), {}),
            ("cyclic", ([None, 0, 12], 24), {}),
        ],
    )
    assert seconds == [86_400, None, 5]
    assert parts["hour"] == [None, 1, None] and parts["year"] == [None, 1970, None]
    assert circle[1] == [None, 1.0, -1.0]


def test_messages_name_the_function_and_the_argument():
    assert apply_all(
        [
            ("epoch_seconds", ([1, 2],), {}),
            ("date_parts", ([0.5],), {}),
            ("date_parts", ([1],), {"utc_offset_hours": "UTC"}),
            ("cyclic", (["a"], 24), {}),
            ("cyclic", ([1], 0), {}),
            ("cyclic_date_parts", (["2026-01-01"],), {}),
            ("epoch_seconds", (None,), {}),
        ],
    ) == [
        "TypeError: features.epoch_seconds: text must be text. Received: a tensor of int64.",
        "TypeError: features.date_parts: seconds must be whole numbers. Received: a tensor of "
        "float32.",
        "ValueError: features.date_parts: utc_offset_hours must be a number of at least -24. "
        "Received: 'UTC'.",
        "TypeError: features.cyclic: values must be numbers. Received: a tensor of string.",
        "ValueError: features.cyclic: period must be a number of at least 4.94066e-324. "
        "Received: 0.",
        "TypeError: features.cyclic_date_parts: seconds must be whole numbers. Received: a "
        "tensor of string.",
        "TypeError: features.epoch_seconds: text must be a tensor of text. Received: None.",
    ]
