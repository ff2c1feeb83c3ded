"""Batch predictions of every kind of task.

The same as evaluation's, with defaults for what is missing.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.predict_batch.step import predict_batch
from perennial.errors import DataError
from perennial.ledger.events import Ledger
from perennial.project import load_project
from perennial.registry.versions import Candidate, Registry
from perennial.storage.digests import digest_folder
from perennial.training.artifacts import SAVED_MODEL
from schemas.records import Evaluation
from tests.forked import forked
from tests.kinds import copy_kind_project
from tests.perennial.records import deployment

COLUMNS = {
    "binary": {"predicted_class": pa.int64(), "probabilities": pa.list_(pa.float32())},
    "regression": {"predicted_value": pa.float32()},
    "several": {
        "severe_predicted_class": pa.int64(),
        "severe_probabilities": pa.list_(pa.float32()),
        "progression_predicted_value": pa.float32(),
    },
}


def deploy_candidate(kind, folder):
    """The kind's project in a folder of its own, with the candidate deployed."""
    project = copy_kind_project(kind, folder)
    model = kind.candidate / SAVED_MODEL
    version = Registry(project).register(Candidate(model, digest_folder(model), {}, {}, {}, {}))
    champion = Ledger(project.ledger_url).champion()
    replaces = champion.deployment if champion else None
    Ledger(project.ledger_url).deploy(
        deployment(version.version, replaces, digest=version.digest), None
    )
    return project


def predict_each(kinds, folder):
    """Kind -> what was written for the patients as they landed."""
    for kind, made in kinds.items():
        project = deploy_candidate(made, folder / kind)
        predict_batch(
            project, project.folder / "data" / "2026-01-01.csv", folder / f"{kind}.parquet"
        )


@pytest.fixture(scope="module")
def predicted(kinds, tmp_path_factory):
    """The folder of the projects and of what was written."""
    folder = tmp_path_factory.mktemp("predicted")
    forked(predict_each, kinds, folder)
    return folder


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_each_kind(predicted, kind):
    schema = pq.read_schema(predicted / f"{kind}.parquet")
    landed = ["id", "progression", "sex", "age", "bmi", "ltg", "pressure"]
    assert schema.names == [*landed, *COLUMNS[kind], "model_version"]
    for name, form in COLUMNS[kind].items():
        found = schema.field(name).type
        assert found.value_type == form.value_type if pa.types.is_list(form) else found == form


@pytest.mark.parametrize("kind", COLUMNS)
def test_predictions_are_those_of_evaluation(kinds, predicted, kind):
    """Every fifth patient lacks the blood pressure: both take the schema's default for it."""
    evaluation = Evaluation.read(kinds[kind].evaluation)
    written = pd.read_parquet(predicted / f"{kind}.parquet").set_index("id")
    assert len(written) == 442
    for task in evaluation.tasks:
        table = kinds[kind].table(task.name)
        prefix = f"{task.name}_" if len(evaluation.tasks) > 1 else ""
        part = "predicted_value" if task.kind == "regression" else "probabilities"
        found = written[prefix + part][table["key"]]
        np.testing.assert_allclose(
            np.vstack(found), np.vstack(table[evaluation.candidate]), rtol=1e-5, atol=1e-5
        )


def predict_again(project, data):
    predict_batch(project, data, data.with_suffix(".parquet"))


def test_file_without_an_optional_feature(predicted, tmp_path):
    rows = pd.read_csv(predicted / "regression" / "data" / "2026-01-01.csv")
    lacking = rows[rows["pressure"].isna()].drop(columns="pressure").head(5)
    lacking.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    forked(predict_again, load_project(predicted / "regression"), tmp_path / "rows.jsonl")
    found = pd.read_parquet(tmp_path / "rows.parquet").set_index("id")["predicted_value"]
    expected = pd.read_parquet(predicted / "regression.parquet").set_index("id")["predicted_value"]
    np.testing.assert_allclose(found, expected[found.index], rtol=1e-5)


def test_file_without_a_feature_that_has_no_default(predicted, tmp_path):
    (tmp_path / "rows.csv").write_text("id,sex,age,bmi\na,1,50,30\n")
    with pytest.raises(DataError) as caught:
        forked(predict_again, load_project(predicted / "regression"), tmp_path / "rows.csv")
    assert "rows.csv must have the features that the model needs (sex, age, bmi, ltg)" in str(
        caught.value
    )
    assert not (tmp_path / "rows.parquet").exists()


@pytest.mark.parametrize("kind", ["regression", "several"])
def test_parquet_gives_the_same_in_the_same_order(predicted, kind, tmp_path):
    """Numbers are read as columns; an optional feature that a row lacks is null there."""
    rows = pd.read_csv(predicted / kind / "data" / "2026-01-01.csv")
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    forked(
        predict_to,
        load_project(predicted / kind),
        tmp_path / "rows.parquet",
        tmp_path / "written.parquet",
    )
    found, expected = (
        pd.read_parquet(tmp_path / "written.parquet"),
        pd.read_parquet(predicted / f"{kind}.parquet"),
    )
    assert found["id"].tolist() == rows["id"].tolist() == expected["id"].tolist()
    for column in COLUMNS[kind]:
        np.testing.assert_allclose(np.vstack(found[column]), np.vstack(expected[column]), rtol=1e-5)


def predict_to(project, data, output):
    return predict_batch(project, data, output)


def test_row_that_does_not_fit_is_named(predicted, tmp_path):
    rows = pd.read_csv(predicted / "regression" / "data" / "2026-01-01.csv").head(3)
    rows.loc[1, "bmi"] = np.inf
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    project, written = load_project(predicted / "regression"), tmp_path / "w.parquet"
    result = forked(predict_to, project, tmp_path / "rows.parquet", written)
    assert (result.rows, result.set_aside) == (2, 1)
    assert "rows.parquet: row 2: `bmi` must be a number" in result.first
    assert pd.read_parquet(written)["id"].tolist() == rows["id"].drop(1).tolist()
    kept = json.loads(result.set_aside_path.read_text())
    assert kept["place"] == f"{tmp_path / 'rows.parquet'}: row 2" and kept["values"]["age"] > 0


def predict_by_command(project, data, *options):
    """The exit code, the output and the error of `perennial predict`."""
    from typer.testing import CliRunner

    from perennial.cli.main import app

    answer = CliRunner().invoke(app, ["predict", str(project.folder), str(data), *options])
    code = getattr(answer.exception, "exit_code", answer.exit_code)
    return code, answer.output, str(answer.exception or "")


def test_exit_code_is_as_asked(predicted, tmp_path):
    rows = pd.read_csv(predicted / "regression" / "data" / "2026-01-01.csv").head(4)
    rows["bmi"] = ["1.5", "n/a", "2", "3"]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    project = load_project(predicted / "regression")
    code, output, error = forked(predict_by_command, project, tmp_path / "rows.csv")
    assert code == 3 and "must have at most 0.00% of its rows set aside" in error
    assert "line 3: `bmi` must be a number. Received: 'n/a'" in error
    assert "rows set aside: 1 of 4" in output
    written = tmp_path / "rows.predictions.parquet"
    assert len(pd.read_parquet(written)) == 3
    assert (tmp_path / "rows.predictions.set_aside.jsonl").exists()
    allowed = ("--allow-set-aside", "0.25")
    code, output, _ = forked(predict_by_command, project, tmp_path / "rows.csv", *allowed)
    assert code == 0 and "rows set aside: 1 of 4" in output
    rows.drop(1).to_csv(tmp_path / "rows.csv", index=False)
    code, output, _ = forked(predict_by_command, project, tmp_path / "rows.csv")
    assert code == 0 and "set aside" not in output
    assert not (tmp_path / "rows.predictions.set_aside.jsonl").exists()


def test_file_without_a_row_that_can_be_scored(predicted, tmp_path):
    rows = pd.read_csv(predicted / "regression" / "data" / "2026-01-01.csv").head(3)
    rows["bmi"] = "n/a"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(DataError, match=r"must have a row that can be scored. Received: 3 that"):
        forked(predict_again, load_project(predicted / "regression"), tmp_path / "rows.csv")
    assert not (tmp_path / "rows.parquet").exists()
    assert len((tmp_path / "rows.set_aside.jsonl").read_text().splitlines()) == 3


def test_numbers_of_a_csv_stay_numbers(predicted):
    schema = pq.read_schema(predicted / "regression.parquet")
    assert schema.field("age").type == schema.field("bmi").type == pa.float64()
    assert schema.field("id").type == pa.string()


def test_another_delimiter_is_asked_for_or_set(predicted, tmp_path):
    rows = pd.read_csv(predicted / "regression" / "data" / "2026-01-01.csv").head(4)
    rows["note"] = ["a;b", 'c "d"', "e,f", ""]
    rows.to_csv(tmp_path / "rows.csv", index=False, sep=";")
    project, written = predicted / "regression", tmp_path / "rows.predictions.parquet"
    settings = (project / "project.yaml").read_text()
    by_comma = load_project(project)
    code, _, error = forked(predict_by_command, by_comma, tmp_path / "rows.csv")
    assert code == 3 and not written.exists()
    assert "Received: semicolons: 'id;" in error and error.endswith(
        "Name them with --delimiter, or write it again."
    )
    code, output, error = forked(
        predict_by_command, by_comma, tmp_path / "rows.csv", "--delimiter", ";"
    )
    assert code == 0, (output, error)
    asked = pd.read_parquet(written)
    assert asked["id"].tolist() == rows["id"].tolist()
    assert asked["note"].tolist() == ["a;b", 'c "d"', "e,f", None]
    code, output, _ = forked(
        predict_by_command, by_comma, tmp_path / "rows.csv", "--delimiter", "ab"
    )
    assert code == 2 and "must be one character" in output
    written.unlink()
    values = yaml.safe_load(settings)
    values["data"]["delimiter"] = ";"
    try:
        (project / "project.yaml").write_text(yaml.safe_dump(values))
        code, output, _ = forked(predict_by_command, load_project(project), tmp_path / "rows.csv")
    finally:
        (project / "project.yaml").write_text(settings)
    assert code == 0 and pd.read_parquet(written).equals(asked), output
