"""Drift: what is compared, with what, and what is said where nothing could be."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from components.validate_data.drift import Baseline, Rules, check_drift, make_baselines
from components.validate_data.drift_distances import (
    align_categories,
    align_numbers,
    jensen_shannon,
    l_infinity,
    measure_categories,
    measure_numbers,
)
from perennial.data.distributions import Distribution, merge_spans
from tests.components.validate_data.spans import categories, numbers

RULES = Rules("id", "label", 0.01, "warn", "quarantine")
RNG = np.random.default_rng(3)
NORMAL = [numbers(RNG.normal(10, 3, 500)) for _ in range(4)]
COUNTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 400), min_size=1)
VALUES = st.lists(
    st.sampled_from([-3.5, 0.0, 1.0, 2.0, 2.5, 7.0]) | st.floats(-1e6, 1e6),
    min_size=1,
    max_size=200,
)
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda p: sum(p) > 0.01)


def feature(text):
    return text_format.Parse(text, schema_pb2.Feature())


def compare(spec, after, before, rules=RULES):
    """The checks of one feature against the spans before."""
    one = feature(spec)
    baselines = make_baselines([{one.name: part} for part in before])
    return check_drift([one], {one.name: after}, baselines, rules)


@given(SHARES, SHARES)
def test_distances_are_metrics_of_the_same_sides(p, q):
    size = min(len(p), len(q))
    p, q = (np.array(side[:size]) + 1e-3 for side in (p, q))
    p, q = p / p.sum(), q / q.sum()
    for distance in (l_infinity, jensen_shannon):
        assert distance(p, p) == 0
        assert distance(p, q) == pytest.approx(distance(q, p)) and 0 <= distance(p, q) <= 1
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(1)


@given(COUNTS, st.integers(0, 50), st.integers(1, 3))
def test_equal_categories_never_alarm(counts, missing, several):
    part = categories(counts, missing, several)
    if part.examples:
        found = measure_categories(align_categories(part, part), 0.4)
        assert found.value == 0 <= found.threshold


@given(VALUES, st.integers(0, 50))
def test_equal_numbers_never_alarm_and_shares_add_up(values, missing):
    part = numbers(values, missing)
    sides = align_numbers(part, part)
    assert sides.p.sum() == pytest.approx(1) and sides.p.tolist() == sides.q.tolist()
    found = measure_numbers(sides, 0.4)
    assert found.value == 0 <= found.threshold


@given(VALUES, VALUES, st.integers(0, 9))
def test_comparing_is_the_same_both_ways(one, other, missing):
    sides = [numbers(one, missing), numbers(other)]
    found = [measure_numbers(align_numbers(*pair), 1e-3) for pair in (sides, sides[::-1])]
    assert found[0].value == pytest.approx(found[1].value)
    assert found[0].threshold == pytest.approx(found[1].threshold, rel=0.02)


def test_each_comparison_is_one_check_with_its_distance():
    checks = compare('name: "fare" type: FLOAT', NORMAL[3], NORMAL[:3])
    assert [check.verdict for check in checks] == ["passed", "passed"]
    assert ["the span before" in checks[0].message, "the window" in checks[1].message] == [
        True,
        True,
    ]
    assert all(check.distance < check.threshold and check.kind == "drift" for check in checks)
    assert checks[1].threshold < checks[0].threshold  # the window is larger


def test_the_only_span_before_is_compared_once():
    assert len(compare('name: "fare" type: FLOAT', NORMAL[1], NORMAL[:1])) == 1


def test_moved_mean_tells_the_distance_the_noise_and_the_quartiles():
    (check,) = compare('name: "fare" type: FLOAT', numbers(RNG.normal(11.5, 3, 500)), NORMAL[:1])
    assert (
        check.verdict == "failed" and check.severity == "warn" and check.distance > check.threshold
    )
    assert (
        "chance explains up to" in check.message
        and "at 500 rows; quartiles went from" in check.message
    )


def test_moved_share_names_the_category():
    before, after = (
        categories({"a": 500, "b": 400, "c": 100}),
        categories({"a": 440, "b": 360, "c": 200}),
    )
    (check,) = compare('name: "zone" type: BYTES', after, [before])
    assert check.verdict == "failed" and "`c` went from 10% to 20%" in check.message


@pytest.mark.parametrize("kind", ["FLOAT", "BYTES"])
def test_feature_that_goes_missing_is_drift(kind):
    make = {
        "FLOAT": lambda n, m: numbers(RNG.normal(0, 1, n), m),
        "BYTES": lambda n, m: categories({"a": n}, m),
    }[kind]
    for gone in (
        make(400, 100),
        make(0, 500) if kind == "BYTES" else Distribution(500, 500, 0, None, None, None),
    ):
        (check,) = compare(f'name: "fare" type: {kind}', gone, [make(500, 0)])
        assert check.verdict == "failed" and "missing went from 0% to" in check.message


def test_values_that_are_not_finite_are_told_apart():
    part = numbers(RNG.normal(0, 1, 400))
    with_nan = Distribution(500, 0, 500, None, part.knots, part.cumulative)
    (check,) = compare('name: "fare" type: FLOAT', with_nan, [numbers(RNG.normal(0, 1, 500))])
    assert check.verdict == "failed"


def test_spike_within_a_smooth_feature_is_seen():
    spiked = np.where(RNG.random(1000) < 0.1, 0.37, RNG.normal(0, 1, 1000))
    (check,) = compare(
        'name: "fare" type: FLOAT', numbers(spiked), [numbers(RNG.normal(0, 1, 1000))]
    )
    assert check.verdict == "failed"


def test_several_values_of_one_example_are_one_observation():
    few = (categories({"a": 60, "b": 40}, several=50), categories({"a": 45, "b": 55}, several=50))
    (check,) = compare('name: "tags" type: BYTES', few[1], [few[0]])
    assert check.verdict == "passed" and "at 100 rows" in check.message


def test_few_values_of_a_whole_number_are_compared():
    counts = [
        RNG.choice(5, 500, p=p) for p in ([0.1, 0.2, 0.4, 0.2, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2])
    ]
    (check,) = compare('name: "rating" type: INT', numbers(counts[1]), [numbers(counts[0])])
    assert check.verdict == "failed"


def test_label_is_a_category_with_a_severity_of_its_own():
    before, after = (numbers(np.repeat([0, 1], counts)) for counts in ([900, 100], [700, 300]))
    (check,) = compare('name: "label" type: INT', after, [before])
    assert (check.kind, check.severity, check.verdict) == ("label_drift", "quarantine", "failed")
    assert check.distance == pytest.approx(0.2) and "L-infinity" in check.message


def test_a_million_rows_do_not_alarm_on_nothing():
    before, after = (
        categories({"a": 500_000, "b": 500_000}),
        categories({"a": 504_000, "b": 496_000}),
    )
    (check,) = compare('name: "zone" type: BYTES', after, [before])
    assert check.verdict == "passed" and "taken for no change" in check.message


def test_level_is_shared_by_all_comparisons():
    specs = [feature(f'name: "f{number}" type: FLOAT') for number in range(20)]
    baselines = make_baselines([{spec.name: NORMAL[0] for spec in specs}])
    many = check_drift(specs, {spec.name: NORMAL[1] for spec in specs}, baselines, RULES)
    (one,) = compare('name: "f0" type: FLOAT', NORMAL[1], NORMAL[:1])
    assert many[0].threshold > one.threshold


SHIFTED = categories({"a": 60, "b": 40})


@pytest.mark.parametrize(
    "limit, verdict",
    [
        ("infinity_norm { threshold: 0.2 }", "passed"),
        ("infinity_norm { threshold: 0.05 }", "failed"),
        ("jensen_shannon_divergence { threshold: 0.001 }", "failed"),
        ("jensen_shannon_divergence { threshold: 0.2 }", "passed"),
    ],
)
def test_threshold_of_the_schema_replaces_the_default(limit, verdict):
    (check,) = compare(
        f'name: "z" type: BYTES drift_comparator {{ {limit} }}',
        SHIFTED,
        [categories({"a": 5, "b": 5})],
    )
    assert check.verdict == verdict and "its drift_comparator allows" in check.message


def test_comparator_of_another_kind_is_not_heard():
    (check,) = compare(
        'name: "zone" type: BYTES skew_comparator { infinity_norm { threshold: 0.01 } }',
        SHIFTED,
        [SHIFTED],
    )
    assert "chance explains" in check.message


FLOAT = 'name: "fare" type: FLOAT'
NOTHING = Distribution(0, 0, 0, None, None, None)
BYTES_ONLY = Distribution(50, 0, 50, None, None, None)


@pytest.mark.parametrize(
    "spec, after, before, why",
    [
        (
            'name: "id" type: BYTES',
            categories({"a": 1, "b": 1}),
            [categories({"c": 2})],
            "it is the key",
        ),
        ('name: "image" type: BYTES', BYTES_ONLY, [BYTES_ONLY], "images or bytes"),
        (
            'name: "z" type: BYTES',
            categories({"a": 9}),
            [BYTES_ONLY],
            "not counted in the span before",
        ),
        (
            FLOAT,
            NORMAL[0],
            [Distribution(90, 90, 0, None, None, None)],
            "no values in the span before",
        ),
        (
            FLOAT,
            NORMAL[0],
            [categories({"a": 100})],
            "numbers in this span and categories in the span before",
        ),
        (FLOAT, NORMAL[0], [NOTHING], "no rows in the span before"),
        (FLOAT, NOTHING, [NORMAL[0]], "no rows in this span"),
        (
            'name: "d" type: BYTES',
            categories({"2026-01-02": 9}),
            [categories({"2026-01-01": 9})],
            "it is a date",
        ),
        (
            FLOAT + " drift_comparator { infinity_norm { threshold: 0.1 } }",
            NORMAL[0],
            [NORMAL[1]],
            "use jensen",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_and_never_passed(spec, after, before, why):
    (check,) = compare(spec, after, before)
    assert check.verdict == "not_compared" and why in check.message
    assert check.distance is None and check.threshold is None


def test_nothing_before_is_said_of_the_features_and_of_the_label():
    specs = [feature(FLOAT), feature('name: "label" type: INT')]
    checks = check_drift(specs, {"fare": NORMAL[0]}, [], RULES)
    assert [(check.kind, check.verdict) for check in checks] == [
        ("drift", "not_compared"),
        ("label_drift", "not_compared"),
    ]


def test_new_feature_is_compared_with_the_spans_that_have_it():
    baselines = make_baselines([{}, {"fare": NORMAL[0]}, {"fare": NORMAL[1]}])
    checks = check_drift([feature(FLOAT)], {"fare": NORMAL[2]}, baselines, RULES)
    assert [check.verdict for check in checks] == ["passed", "passed"]


def test_span_without_a_feature_lacks_it_wherever_distributions_merge():
    """Once there is a feature, a span without it counts as examples that miss it, as in TFDV's statistics."""
    spans = [{"id": NORMAL[3]}, {"id": NORMAL[3], "fare": NORMAL[0]}, {"id": NORMAL[3]}]
    together = merge_spans(spans)["fare"]
    assert (together.examples, together.missing) == (1500, 1000)
    before, window = make_baselines(spans)
    assert "fare" not in before.distributions
    assert (window.distributions["fare"].examples, window.distributions["fare"].missing) == (
        1000,
        500,
    )
    assert window.distributions["fare"].total == together.total == NORMAL[0].total
    assert make_baselines([*spans[1:], spans[1]])[1].distributions["fare"].missing == 500


def test_skew_has_its_own_kind_and_comparator():
    rules = Rules("id", "label", 0.01, "stop", "stop", "skew")
    spec = feature(
        'name: "label" type: BYTES skew_comparator { infinity_norm { threshold: 0.05 } }'
    )
    (check,) = check_drift(
        [spec], {"label": SHIFTED}, [Baseline("100 served requests", {"label": SHIFTED})], rules
    )
    assert (check.kind, check.verdict, check.severity) == ("skew", "passed", "stop")
    assert "100 served requests; its skew_comparator allows 0.05" in check.message
