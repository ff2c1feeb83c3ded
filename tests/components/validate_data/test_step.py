"""Validation: good days pass, each broken one is refused for what is broken, and drift is never passed unseen."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from components.validate_data.step import conclude, read_validation
from perennial.digests import digest_folder
from perennial.errors import ProjectError
from schemas.records import Check, Span, SpanValidation
from tests.components.chain import copy_project
from tests.components.forked import forked
from tests.components.validate_data.jobs import check_drift, run_expectations, validate_third_day

REFUSED = {
    "wrong-range": "image.max",
    "missing-labels": "label: expected column values to not be null",
    "shuffled-columns": "id",
    "truncated-file": "2026-01-03.parquet must be a whole Parquet file",
}


@pytest.fixture(scope="module")
def refused(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    project = copy_project(chain, folder / "digits")
    return folder, forked(validate_third_day, chain, project, list(REFUSED), folder)


def test_good_days_are_accepted(chain):
    validation = read_validation(chain.validation)
    assert validation.accepted and validation.reasons == []
    assert [span.span.name for span in validation.spans if span.new] == ["2026-01-01", "2026-01-02"]
    for span in validation.spans:
        assert {check.kind for check in span.checks} == {"readable", "schema", "expectation", "drift"}
        assert {check.verdict for check in span.checks if check.kind != "drift"} == {"passed"}


def test_every_feature_and_every_expectation_was_checked(chain):
    checks = read_validation(chain.validation).spans[0].checks
    assert {c.subject for c in checks if c.kind == "schema"} == {"id", "date", "image", "label"}
    assert sum(c.kind == "expectation" for c in checks) == len(chain.project.expectations)


def test_window_holds_the_examples_of_every_span(chain):
    spans = [span.name for span in chain.selection.window]
    assert sorted(path.name for path in chain.window.iterdir()) == spans
    for span in spans:
        assert digest_folder(chain.window / span) == digest_folder(chain.examples(span))


def test_data_docs_lead_from_their_index_to_each_new_span(chain):
    site = chain.validation / "data_docs"
    links = re.findall(r'href="(validations/[^"]+)"', (site / "index.html").read_text())
    assert len(links) == len(chain.selection.new_spans)
    for span, link in zip(chain.selection.new_spans, links, strict=True):
        assert span in link and "values must be unique" in (site / link).read_text()


def test_data_docs_load_nothing_from_outside(chain):
    for page in (chain.validation / "data_docs").rglob("*.html"):
        assert not re.findall(r'<(?:link|script|img)[^>]*(?:href|src)="https?://', page.read_text()), page


@pytest.mark.parametrize("kind", REFUSED)
def test_broken_day_is_refused_with_what_is_broken(refused, kind):
    folder, found = refused
    validation = found[kind]
    assert not validation.accepted
    (reason,) = validation.reasons
    assert reason.startswith("span 2026-01-03 was refused: ") and REFUSED[kind] in reason
    assert not list((folder / kind / "window").iterdir())
    assert read_validation(folder / kind / "validation") == validation


def test_only_what_is_new_is_checked_and_only_what_failed_is_named(refused):
    for validation in refused[1].values():
        *before, third = validation.spans
        assert all(not span.new and not span.checks for span in before)
        assert third.new and third.failures


def test_wrong_range_is_seen_by_the_schema_too(refused):
    failures = refused[1]["wrong-range"].spans[-1].failures
    assert {check.kind for check in failures if check.subject.startswith("image")} == {"schema", "expectation"}


def test_drift_that_was_not_compared_is_said(chain):
    drift = [c for span in read_validation(chain.validation).spans for c in span.checks if c.kind == "drift"]
    assert [c.verdict for c in drift] == ["not_compared"] * 2
    assert all("drift_comparator" in c.message for c in drift)


@pytest.fixture(scope="module")
def drift(chain, tmp_path_factory):
    return forked(check_drift, chain.project, chain, tmp_path_factory.mktemp("drift"))


@pytest.mark.parametrize("measure", ["infinity_norm", "jensen_shannon_divergence"])
@pytest.mark.parametrize(
    "case, verdict, says",
    [
        ("same", "passed", "within drift_comparator"),
        ("shifted", "failed", "above the threshold 0.1"),
        ("first", "not_compared", "no earlier span"),
        ("empty", "not_compared", "no values in the span before"),
    ],
)
def test_drift_of_the_label(drift, measure, case, verdict, says):
    (check,) = drift[f"{measure} {case}"]
    assert check.verdict == verdict and says in check.message
    assert check.subject == ("all features" if case == "first" else "label")


def test_categories_that_were_measured_as_numbers_are_not_passed(drift):
    (check,) = drift["infinity_norm numbers"]
    assert check.verdict == "not_compared" and "jensen_shannon_divergence" in check.message


FRAME = {"one": pd.DataFrame({"a": [1, 2, 2]}), "two": pd.DataFrame({"a": [1, 2, 3]})}
UNIQUE = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "a"}}
ELSEWHERE = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "b"}}


def test_every_span_has_its_own_verdicts_and_an_unknown_column_fails(tmp_path):
    found = forked(run_expectations, FRAME, [UNIQUE, ELSEWHERE], tmp_path / "docs")
    one, two = ({check.subject: check for check in checks} for checks in found.values())
    assert [one["a"].verdict, one["b"].verdict] == ["failed", "failed"]
    assert [two["a"].verdict, two["b"].verdict] == ["passed", "failed"]
    assert "(such as 2" in one["a"].message and '"b"' in one["b"].message


@pytest.mark.parametrize(
    "wrong", [{"type": "expect_nothing", "kwargs": {}}, {"type": UNIQUE["type"], "kwargs": {"columns": "a"}}]
)
def test_expectation_that_does_not_exist_is_named(tmp_path, wrong):
    with pytest.raises(ProjectError, match=r"expectations\.json: expectations\[1\] must be an expectation"):
        forked(run_expectations, FRAME, [UNIQUE, wrong], tmp_path / "docs")


def _validated(name, *failed):
    span = Span(name=name, version=1, uri=name, fingerprint=name)
    checks = [Check(kind=kind, subject="label", verdict="failed", message=f"{kind} broken") for kind in failed]
    return SpanValidation(span=span, new=True, rows={}, labels={}, checks=checks)


def test_each_failed_span_gives_one_reason_and_the_rule_before_the_anomaly():
    verdict = conclude([_validated("a"), _validated("b", "schema", "expectation"), _validated("c", "drift")])
    assert not verdict.accepted
    assert verdict.reasons == [
        "span b was refused: label: expectation broken (and 1 more)",
        "span c was refused: label: drift broken",
    ]
    assert conclude([_validated("a")]).accepted
