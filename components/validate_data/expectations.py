"""Business rules: runs the project's Great Expectations suite on one span and builds its Data Docs."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.validate_data.data_docs import finish_site
from perennial.errors import ProjectError
from perennial.publishing import publish_folder
from perennial.tfx_compat import prepare_process
from schemas.records import Check

if TYPE_CHECKING:
    import pandas as pd


def check_expectations(
    frames: dict[str, pd.DataFrame], expectations: list[dict[str, Any]], output: Path
) -> dict[str, list[Check]]:
    """Runs the suite on the frame of every span; gives the checks of each span.

    `output` becomes the Data Docs site: a folder with `index.html`.

    Raises:
        ProjectError: An expectation does not exist or does not take its arguments.
    """
    prepare_process()
    import great_expectations as gx

    for name in ("great_expectations", "great_expectations.data_context"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        context = gx.get_context(mode="file", project_root_dir=scratch)
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
        suite = context.suites.add(
            gx.ExpectationSuite(name="expectations", expectations=build_expectations(expectations))
        )
        batches = context.data_sources.add_pandas("spans").add_dataframe_asset("span")
        batch = batches.add_batch_definition_whole_dataframe("whole")
        definition = gx.ValidationDefinition(name="span", data=batch, suite=suite)
        definition = context.validation_definitions.add(definition)
        checks = {name: _run(definition, name, frame) for name, frame in frames.items()}
        context.build_data_docs()
        site = Path(scratch) / "gx" / "uncommitted" / "data_docs" / "local_site"
        finish_site(site, checks)
        shutil.rmtree(output, ignore_errors=True)
        publish_folder(site, output)
    return checks


def build_expectations(expectations: list[dict[str, Any]]) -> list[Any]:
    """The suite as Great Expectations objects.

    Raises:
        ProjectError: An expectation does not exist or does not take its arguments.
    """
    prepare_process()
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    built = []
    for number, item in enumerate(expectations):
        try:
            built.append(ExpectationConfiguration(type=item["type"], kwargs=item["kwargs"]).to_domain_obj())
        except Exception as error:  # Great Expectations raises pydantic's, its own and plain errors alike
            where = f"expectations.json: expectations[{number}]"
            expected = "must be an expectation that Great Expectations knows, with its arguments"
            received = f"{item['type']} {item['kwargs']} ({str(error).splitlines()[0]})"
            raise ProjectError(where, expected, received, "See Great Expectations' gallery.") from error
    return built


def _run(definition: Any, span: str, frame: pd.DataFrame) -> list[Check]:
    from great_expectations.core.run_identifier import RunIdentifier

    result = definition.run(
        batch_parameters={"dataframe": frame},
        result_format="SUMMARY",
        run_id=RunIdentifier(run_name=f"span {span}"),
    )
    return [_as_check(item.to_json_dict()) for item in result.results]


def _as_check(item: dict[str, Any]) -> Check:
    config = item["expectation_config"]
    kwargs = {name: value for name, value in config["kwargs"].items() if name not in ("batch_id", "column")}
    subject = str(config["kwargs"].get("column", "table"))
    rule = config["type"].removeprefix("expect_").replace("_", " ")
    wanted = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in kwargs.items())
    failed = item["exception_info"].get("exception_message") if item.get("exception_info") else None
    if item["success"]:
        return Check(kind="expectation", subject=subject, verdict="passed", message=f"{rule}: {wanted}".rstrip(": "))
    message = f"expected {rule} {wanted}".rstrip() + f"; {_observed(item, failed)}"
    return Check(kind="expectation", subject=subject, verdict="failed", message=message)


def _observed(item: dict[str, Any], failed: str | None) -> str:
    result = item.get("result") or {}
    if "unexpected_count" in result:
        some = ", ".join(str(value) for value in result.get("partial_unexpected_list", [])[:3] if value is not None)
        rows = result["unexpected_count"]
        return f"not so in {rows} of {result['element_count']} rows" + (f" (such as {some})" if some else "")
    if "observed_value" in result:
        return f"received {result['observed_value']}"
    return _cause(item, failed)


def _cause(item: dict[str, Any], failed: str | None) -> str:
    """The message of the exception that kept an expectation from being evaluated."""
    if failed:
        return failed.splitlines()[0]
    inner = [v for v in (item.get("exception_info") or {}).values() if isinstance(v, dict)]
    messages = [str(v.get("exception_message", "")).splitlines() for v in inner]
    return next((lines[0] for lines in messages if lines), "no result")
