"""Business rules: runs the project's Great Expectations suite on the examples of one span."""

from __future__ import annotations

import copy
import logging
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from components.check_examples.broken_rules import (
    broken_rule,
    check_can_be_judged,
    check_columns_exist,
    rule_place,
)
from components.check_examples.data_docs import finish_site
from components.check_examples.dates import frame_in_seconds, has_dates, in_seconds, show_dates
from components.check_examples.example_table import BLOCK_ROWS, Table
from components.check_examples.in_parts import ROW_BY_ROW, add_up, frame_for
from perennial.errors import ProjectError
from perennial.storage.atomic import publish_folder
from perennial.tfx_compat import prepare_process
from schemas.project import Severity
from schemas.records import Check

if TYPE_CHECKING:
    import pandas as pd

# What a file written by Great Expectations may hold beside type and kwargs; the first four are
# passed on.
_OWN_KEYS = (
    "meta",
    "notes",
    "description",
    "severity",
    "id",
    "rendered_content",
    "expectation_context",
)
_PASSED_ON = _OWN_KEYS[:4]
# How results are reported is decided here: the rows are found with COMPLETE only.
_NOT_PASSED_ON = ("result_format", "catch_exceptions")
_LONGEST = 60
_COMPLETE = {"result_format": "COMPLETE", "return_unexpected_index_query": False}


@dataclass(frozen=True)
class Finding:
    """The result of one expectation on a table.

    `reasons` tells, for the position of every row that broke it, why; it is empty where the
    expectation passed, only warns, or did not fail for single rows. `rule` is what the expectation
    wants, in words.
    """

    check: Check
    rule: str
    reasons: dict[int, str] = field(default_factory=dict)


class Suite:
    """The expectations of a project, ready to judge tables of one span.

    `known` are the columns that a rule may name, also where a span has no value of them.
    """

    def __init__(
        self,
        context: Any,
        definition: Any,
        items: list[dict[str, Any]],
        default: Severity,
        known: Collection[str] = (),
    ) -> None:
        self._context, self._definition = context, definition
        self._items, self._known = items, known
        self._severities = [
            read_severity(number, item) or default for number, item in enumerate(items)
        ]
        # Great Expectations gives every expectation an identifier, and its results in an order of
        # its own.
        self._numbers = {
            expectation.id: number
            for number, expectation in enumerate(definition.suite.expectations)
        }
        # Great Expectations compares no text with a date: these are judged in seconds.
        self._dated = {
            number: _build_one(number, in_seconds(item))
            for number, item in enumerate(items)
            if has_dates(item)
        }

    def judge(self, table: Table, span: str, most: int = BLOCK_ROWS) -> list[Finding]:
        """Runs every expectation on a table, in the order of expectations.json.

        A table of more than `most` rows is judged in parts (`in_parts`), which gives the same.

        Raises:
            ProjectError: An expectation names a column that there is not, or can be judged on no
                row.
        """
        store = self._context.validation_results_store
        for key in store.list_keys():  # the Data Docs show the newest run only
            store.remove_key(key)
        whole = table.frame() if len(table) <= most else None
        frame = next(table.blocks(most)) if whole is None else whole
        results = self._definition.run(
            batch_parameters={"dataframe": frame},
            result_format=_COMPLETE,
            run_id=_run_identifier(span),
        )
        by_number = self._by_number(results)
        if whole is None:
            by_number = self._judge_in_parts(table, most, frame)
        else:
            by_number |= {number: self._validate_dated(number, whole) for number in self._dated}
        if whole is None or self._dated:
            self._show(results, by_number)
        lacking = {
            number: self._check_rule(number, frame)
            for number, result in by_number.items()
            if _raised(result)
        }
        return [
            _as_finding(
                self._items[number],
                self._severities[number],
                by_number[number],
                table,
                lacking.get(number, []),
            )
            for number in range(len(self._items))
        ]

    def _check_rule(self, number: int, frame: pd.DataFrame) -> list[str]:
        """Finds what kept a rule from being judged; lists the columns that the span lacks.

        Raises:
            ProjectError: The rule is at fault.
        """
        item = self._items[number]
        lacking = check_columns_exist(number, item, frame.columns, self._known)
        if lacking:
            return lacking

        def judge(rows: pd.DataFrame) -> str | None:
            if number in self._dated:
                result = self._validate_dated(number, rows)
            else:
                expected = self._definition.suite.expectations[number]
                result = self._validate(expected, rows).to_json_dict()
            return _cause(result) if _raised(result) else None

        check_can_be_judged(number, item, frame, judge)
        return []

    def _validate_dated(self, number: int, frame: pd.DataFrame) -> dict[str, Any]:
        """Judges a rule whose bounds are dates.

        Raises:
            ProjectError: Its column holds numbers.
        """
        item = self._items[number]
        column = item["kwargs"].get("column")
        if column in frame and frame[column].dtype != object:
            raise broken_rule(number, item, frame, "a number is not compared with a date")
        result = self._validate(self._dated[number], frame_in_seconds(item, frame)).to_json_dict()
        return show_dates(item, result, frame)

    def _judge_in_parts(
        self, table: Table, most: int, first: pd.DataFrame
    ) -> dict[int, dict[str, Any]]:
        """Judges each expectation on blocks or on as little of the table as it needs."""
        import great_expectations as gx

        whole = self._definition.suite.expectations
        apart = [number for number, item in enumerate(self._items) if item["type"] in ROW_BY_ROW]
        together = [number for number in apart if number not in self._dated]
        suite = gx.ExpectationSuite(
            name="row by row", expectations=[copy.copy(whole[number]) for number in together]
        )
        for copied, number in zip(suite.expectations, together, strict=True):
            copied.id = whole[number].id  # by which its results are known
        parts: dict[int, list[dict[str, Any]]] = {number: [] for number in apart}
        for block in table.blocks(most) if apart else ():
            for number, outcome in self._by_number(self._validate(suite, block)).items():
                parts[number].append(outcome)
            for number in self._dated.keys() & set(apart):
                parts[number].append(self._validate_dated(number, block))
        added = {
            number: add_up(parts[number], self._items[number]["kwargs"].get("mostly", 1))
            for number in apart
        }
        for number, item in enumerate(self._items):
            if number in added:
                continue
            needed = frame_for(item, table, first)
            added[number] = (
                self._validate_dated(number, needed)
                if number in self._dated
                else self._validate(whole[number], needed).to_json_dict()
            )
        return added

    def _validate(self, expected: Any, frame: pd.DataFrame) -> Any:
        batch = self._definition.data.get_batch(batch_parameters={"dataframe": frame})
        return batch.validate(expected, result_format=_COMPLETE)

    def _show(self, results: Any, by_number: Mapping[int, dict[str, Any]]) -> None:
        """Puts findings in parts into the results that the Data Docs show."""
        for item in results.results:
            part = by_number[self._numbers[item.expectation_config.id]]
            item.success, item.result, item.exception_info = (
                part["success"],
                part["result"],
                part["exception_info"],
            )
        met = sum(item.success for item in results.results)
        results.success = met == len(results.results)
        results.statistics |= {
            "successful_expectations": met,
            "unsuccessful_expectations": len(results.results) - met,
            "success_percent": 100 * met / len(results.results) if results.results else None,
        }
        store = self._context.validation_results_store
        (key,) = store.list_keys()
        store.set(key, results)

    def _by_number(self, results: Any) -> dict[int, dict[str, Any]]:
        return {
            self._numbers[item.expectation_config.id]: item.to_json_dict()
            for item in results.results
        }

    def not_compared(self, why: str) -> list[Check]:
        """Makes one check for each expectation of a span without anything to judge."""
        return [
            Check(
                kind="expectation",
                subject=_subject(item),
                verdict="not_compared",
                message=why,
                severity=severity,
            )
            for item, severity in zip(self._items, self._severities, strict=True)
        ]

    def publish_docs(self, span: str, checks: Sequence[Check], output: Path) -> None:
        """Makes `output` the Data Docs of the newest run: `index.html`, which needs no network."""
        self._context.build_data_docs()
        site = Path(self._context.root_directory) / "uncommitted" / "data_docs" / "local_site"
        finish_site(site, span, checks)
        publish_folder(site, output)


@contextmanager
def open_suite(
    expectations: list[dict[str, Any]], default: Severity, known: Collection[str] = ()
) -> Iterator[Suite]:
    """Opens the suite in a context of its own; `default` is the severity of those without one.

    `known` are the columns that an expectation may name though a span has no value of them.

    Raises:
        ProjectError: An expectation does not exist, does not take its arguments, or has an unknown
            severity.
    """
    prepare_process()
    import great_expectations as gx

    for name in ("great_expectations", "great_expectations.data_context"):
        logging.getLogger(name).setLevel(logging.ERROR)
    built = build_expectations(expectations)
    with tempfile.TemporaryDirectory() as scratch:
        context = gx.get_context(mode="file", project_root_dir=scratch)
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
        suite = context.suites.add(gx.ExpectationSuite(name="expectations", expectations=built))
        batches = context.data_sources.add_pandas("spans").add_dataframe_asset("span")
        batch = batches.add_batch_definition_whole_dataframe("whole")
        definition = gx.ValidationDefinition(name="span", data=batch, suite=suite)
        yield Suite(
            context, context.validation_definitions.add(definition), expectations, default, known
        )


def build_expectations(expectations: list[dict[str, Any]]) -> list[Any]:
    """Builds the suite as Great Expectations objects.

    Raises:
        ProjectError: An expectation does not exist, does not take its arguments, or has an unknown
            severity.
    """
    for number, item in enumerate(expectations):
        _refuse_unknown_keys(number, item)
        read_severity(number, item)
    return [_build_one(number, item) for number, item in enumerate(expectations)]


def _build_one(number: int, item: Mapping[str, Any]) -> Any:
    prepare_process()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    kwargs = {name: value for name, value in item["kwargs"].items() if name not in _NOT_PASSED_ON}
    extra = {name: item[name] for name in _PASSED_ON if item.get(name) is not None}
    try:
        return ExpectationConfiguration(type=item["type"], kwargs=kwargs, **extra).to_domain_obj()
    except (
        Exception
    ) as error:  # Great Expectations raises pydantic's, its own and plain errors alike
        expected = "must be an expectation that Great Expectations knows, with its arguments"
        received = f"{item['type']} {item['kwargs']} ({_first_line(error)})"
        raise ProjectError(
            rule_place(number), expected, received, "See Great Expectations' gallery."
        ) from error


def read_severity(number: int, item: dict[str, Any]) -> Severity | None:
    """Reads the severity in an expectation's own `meta: {severity: ...}`; None: there is none.

    Raises:
        ProjectError: It is not a severity.
    """
    meta = item.get("meta")
    if meta is None:
        return None
    if not isinstance(meta, dict):
        raise ProjectError(
            f"{rule_place(number)}.meta", "must be an object", meta, 'Write {"severity": "warn"}.'
        )
    for severity in get_args(Severity):
        if meta.get("severity") == severity:
            known: Severity = severity
            return known
    if "severity" not in meta:
        return None
    where, expected = (
        f"{rule_place(number)}.meta.severity",
        f"must be one of {', '.join(get_args(Severity))}",
    )
    raise ProjectError(
        where, expected, meta["severity"], "docs/data.md tells what each of them does."
    )


def _run_identifier(span: str) -> Any:
    from great_expectations.core.run_identifier import RunIdentifier

    # It becomes the name of a folder, and a table's span may be named by any text.
    name = re.sub(r"[^\w.+-]", "-", span)[:100]
    return RunIdentifier(f"span {name}")


def _refuse_unknown_keys(number: int, item: dict[str, Any]) -> None:
    unknown = sorted(item.keys() - {"type", "kwargs", *_OWN_KEYS})
    if unknown:
        remedy = "Arguments belong into `kwargs`, a severity into `meta`."
        raise ProjectError(
            rule_place(number),
            "must hold only `type`, `kwargs` and `meta`",
            ", ".join(unknown),
            remedy,
        )


def _as_finding(
    item: dict[str, Any],
    severity: Severity,
    outcome: dict[str, Any],
    table: Table,
    lacking: Sequence[str],
) -> Finding:
    subject = _subject(item)
    name, requirement = _describe_rule(item)
    rule = f"expected {name} {requirement}".rstrip()
    if outcome["success"]:
        message = f"{name}: {requirement}".rstrip(": ")
        check = Check(
            kind="expectation",
            subject=subject,
            verdict="passed",
            message=message,
            severity=severity,
        )
        return Finding(check, f"{subject}: {rule}")
    rows = find_rows(outcome, len(table))
    unnamed = rows is None and "unexpected_count" in (outcome.get("result") or {})
    why = "; Great Expectations named only some of them, so all of them stay" if unnamed else ""
    observed = _observed(outcome)
    if lacking:
        observed = f"the span has no value of {', '.join(f'`{name}`' for name in lacking)}"
    message = f"{rule}; {observed}{why}"
    check = Check(
        kind="expectation", subject=subject, verdict="failed", message=message, severity=severity
    )
    if rows is None or severity == "warn":
        return Finding(check, f"{subject}: {rule}")
    frame = table.frame([subject])
    values = frame[subject].iloc[rows] if subject in frame else [None] * len(rows)
    reasons = {
        row: _reason(f"{subject}: {rule}", value) for row, value in zip(rows, values, strict=True)
    }
    return Finding(check, f"{subject}: {rule}", reasons)


def find_rows(outcome: dict[str, Any], rows: int) -> list[int] | None:
    """Finds all rows that broke a row-level expectation; None where they are not all known.

    The lists of *values* in a result (`unexpected_list`, `partial_unexpected_list`,
    `unexpected_rows`) end at 200 or 20; `unexpected_index_list` of a COMPLETE result holds the
    index of every row, which is why it alone is read. That it is whole is not believed but counted:
    there must be as many different rows as `unexpected_count` says.

    Args:
        outcome: A failed expectation's result as JSON, in the format COMPLETE.
        rows: Rows of the frame that was judged; its index counts from 0.

    Source: great_expectations 1.24, `expectations/metrics/map_metric_provider`.
    """
    result = outcome.get("result") or {}
    positions = sorted(
        {row for row in result.get("unexpected_index_list") or [] if isinstance(row, int)}
    )
    whole = bool(positions) and len(positions) == result.get("unexpected_count")
    return positions if whole and positions[0] >= 0 and positions[-1] < rows else None


def _reason(rule: str, value: object) -> str:
    missing = value is None or value != value  # pandas writes a missing number as NaN
    return rule if missing else f"{rule}; received {_brief(value)}"


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _subject(item: dict[str, Any]) -> str:
    return str(item["kwargs"].get("column", "table"))


def _describe_rule(item: dict[str, Any]) -> tuple[str, str]:
    """Describes an expectation by its name and arguments."""
    hidden = ("column", "condition_parser", *_NOT_PASSED_ON)
    rule = str(item["type"]).removeprefix("expect_").replace("_", " ")
    arguments = (
        f"{name.replace('_', ' ')} {value}"
        for name, value in item["kwargs"].items()
        if name not in hidden
    )
    return rule, ", ".join(arguments)


def _observed(outcome: dict[str, Any]) -> str:
    result = outcome.get("result") or {}
    if "unexpected_count" in result:
        some = ", ".join(
            _brief(value)
            for value in result.get("partial_unexpected_list", [])[:3]
            if value is not None
        )
        rows = result["unexpected_count"]
        return f"not so in {rows} of {result['element_count']} rows" + (
            f" (such as {some})" if some else ""
        )
    if "observed_value" in result:
        return f"received {result['observed_value']}"
    return _cause(outcome) if _raised(outcome) else "it is not so"


def _raised(outcome: Mapping[str, Any]) -> bool:
    """Tells whether an error kept an expectation from being judged."""
    info = outcome.get("exception_info") or {}
    return any(
        each.get("raised_exception") for each in (info, *info.values()) if isinstance(each, Mapping)
    )


def _cause(outcome: Mapping[str, Any]) -> str:
    """Gives in one line why an expectation could not be evaluated."""
    info = outcome.get("exception_info") or {}
    messages = [info.get("exception_message")]
    messages += [
        inner.get("exception_message") for inner in info.values() if isinstance(inner, dict)
    ]
    return next((_first_line(message) for message in messages if message), "no result")


def _first_line(message: object) -> str:
    return next(iter(str(message).strip().splitlines()), type(message).__name__)
