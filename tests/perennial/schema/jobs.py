"""What runs in a warm process for the tests of schemas: TensorFlow Data Validation."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 200

SCHEMA = """
# The first comment.
default_environment: "TRAINING"
default_environment: "SERVING"

feature {
  name: "id"
  type: BYTES
  presence { min_fraction: 1.0 min_count: 1 }
  shape {}
  not_in_environment: "SERVING"
}
# US dollars.
feature {
  name: "fare"
  type: FLOAT
  presence { min_fraction: 1.0 min_count: 1 }
  shape {}
  float_domain { name: "fare" min: 0.0 max: 60.0 }  # a day's taxi
}
# Who drives.
feature {
  name: "company"
  type: BYTES
  presence { min_fraction: 1.0 min_count: 1 }
  shape {}
  domain: "company"
}
feature { name: "seconds" type: INT presence { min_fraction: 1.0 min_count: 1 } shape {} int_domain { max: 999 } }
feature { name: "image" type: FLOAT presence { min_fraction: 1.0 min_count: 1 } shape { dim { size: 4 } } }
feature { name: "wind" type: FLOAT presence { min_count: 1 } value_count { min: 1 max: 1 }
  not_in_environment: "SERVING" }
feature { name: "old" type: FLOAT lifecycle_stage: DEPRECATED }
feature { name: "asked" type: FLOAT presence { min_fraction: 1.0 min_count: 1 } shape {}
  not_in_environment: "TRAINING" }
# The tip: a class.
feature {
  name: "label"
  type: INT
  presence { min_fraction: 1.0 min_count: 1 }
  shape {}
  int_domain { name: "label" min: 0 max: 1 is_categorical: true }
  not_in_environment: "SERVING"
}
# Known companies.
string_domain {
  name: "company"
  value: "A"
  value: "B"
}
# The last comment.
"""


def table(**columns: Any) -> dict[str, Any]:
    """A span that is as the schema says, but for the given columns; None leaves one out."""
    usual = {
        "id": [f"row {row}" for row in range(ROWS)],
        "fare": np.linspace(0, 50, ROWS).tolist(),
        "company": ["A", "B"] * (ROWS // 2),
        "seconds": list(range(ROWS)),
        "image": [[0.5] * 4] * ROWS,
        "wind": [0.5, None] * (ROWS // 2),
        "label": [0, 1] * (ROWS // 2),
    }
    return {name: values for name, values in (usual | columns).items() if values is not None}


CASES: dict[str, dict[str, Any]] = {
    "as it says": {},
    "new feature": {"surge": [1.5] * (ROWS - 4) + [None] * 4},
    "new list": {"pair": [[1, 2]] * ROWS},
    "new category": {"kind": ["x", "y"] * (ROWS // 2)},
    "new values": {"company": ["A", "C", "C", "D"] * (ROWS // 4)},
    "many values": {"company": [f"C{row}" for row in range(ROWS)]},
    "missing": {"fare": [1.0, None] * (ROWS // 2)},
    "gone": {"seconds": None},
    "back": {"old": [2.5] * ROWS},
    "wider": {"fare": [70.0, -1.0] * (ROWS // 2), "seconds": [1000] * ROWS},
    "to number": {"seconds": [0.5] * ROWS},
    "to text": {"fare": ["n/a"] * ROWS},
    "to list": {"fare": [[1.0, 2.0]] * ROWS},
    "longer": {"image": [[0.5] * 5] * ROWS},
    "uneven": {"image": [[0.5] * (row % 3 + 1) for row in range(ROWS)]},
    "new class": {"label": [0, 1, 2, 3] * (ROWS // 4)},
    "no label": {"label": None},
    "label is text": {"label": ["yes", "no"] * (ROWS // 2)},
}


def measure(columns: dict[str, Any]) -> Any:
    """Statistics of a table of values and lists of values."""
    import pandas as pd

    from perennial.tfx_compat import import_tfdv

    return import_tfdv().generate_statistics_from_dataframe(pd.DataFrame(columns))


def propose(cases: dict[str, dict[str, Any]]) -> dict[str, tuple[Any, Any, list[str], Any]]:
    """Case -> its statistics, the schema proposed, the anomalies that are left, and what is proposed after it."""
    from perennial.schema.diff import propose_schema
    from perennial.schema.text import parse
    from perennial.tfx_compat import import_tfdv

    found = {}
    for name, changes in cases.items():
        columns = table(**changes)
        statistics = measure(columns)
        after = propose_schema(
            parse(SCHEMA), statistics, [*columns, *(["empty"] if name == "new feature" else [])]
        )
        left = (
            import_tfdv()
            .validate_statistics(statistics, after, environment="TRAINING")
            .anomaly_info
        )
        found[name] = (
            statistics,
            after,
            sorted(left),
            propose_schema(after, statistics, list(columns)),
        )
    return found


# Name -> what lands, the features that are asked for in every row, and the default values.
CHOICES: dict[str, tuple[dict[str, Any], list[str], dict[str, str]]] = {
    "new, with a default": ({"visits": [3] * ROWS}, [], {"visits": "0"}),
    "new text, with a default": ({"kind": ["x", "y"] * (ROWS // 2)}, [], {"kind": "other"}),
    "new, required": ({"pair": [[1, 2]] * ROWS}, ["pair"], {}),
    "gone, with a default": ({"seconds": None}, [], {"seconds": "7"}),
    "optional, now required": ({"wind": [0.5] * ROWS}, ["wind"], {}),
    "required, but some lack it": ({"surge": [1.5, None] * (ROWS // 2)}, ["surge"], {}),
    "required, of several lengths": (
        {"image": [[1.0] * (1 + n % 2) for n in range(ROWS)]},
        ["image"],
        {},
    ),
    "required, and not there": ({}, ["tip"], {}),
    "default of another type": ({"visits": [3] * ROWS}, [], {"visits": "none"}),
    "default of a list": ({}, [], {"image": "0"}),
    "default of nothing": ({}, [], {"tip": "0"}),
}


def choose(
    cases: dict[str, tuple[dict[str, Any], list[str], dict[str, str]]],
) -> dict[str, tuple[Any, list[str], list[str]] | str]:
    """Case -> the schema proposed, its changes in words and the anomalies that are left; or why there is none."""
    from perennial.errors import DataError
    from perennial.schema.description import describe_changes
    from perennial.schema.diff import Choices, propose_schema
    from perennial.schema.text import parse
    from perennial.tfx_compat import import_tfdv

    found: dict[str, tuple[Any, list[str], list[str]] | str] = {}
    for name, (changes, required, defaults) in cases.items():
        columns = table(**changes)
        statistics, before = measure(columns), parse(SCHEMA)
        try:
            after = propose_schema(before, statistics, [*columns], Choices(required, defaults))
        except DataError as error:
            found[name] = str(error)
            continue
        anomalies = import_tfdv().validate_statistics(statistics, after, environment="TRAINING")
        told = describe_changes(before, after, statistics)
        found[name] = after, told, sorted(anomalies.anomaly_info)
    return found


def infer(spans: list[dict[str, Any]], together: dict[str, Any]) -> Any:
    """The first schema from spans."""
    from perennial.schema.inference import first_schema

    columns = [*together, "empty"]
    return first_schema(
        measure(together), [measure(span) for span in spans], columns, "label", "id"
    )


def run_cli(folder: str, *commands: list[str]) -> list[tuple[int, str]]:
    """The exit code and output of commands, as `perennial` gives them."""
    import os

    from typer.testing import CliRunner

    from perennial.cli.main import app
    from perennial.errors import PerennialError

    os.environ["COLUMNS"] = "60"
    found = []
    for command in commands:
        done = CliRunner().invoke(
            app,
            [command[0], command[1], folder, *command[2:]]
            if command[0] == "schema"
            else [*command, folder],
        )
        code, output = done.exit_code, done.output
        if isinstance(done.exception, PerennialError):
            code, output = done.exception.exit_code, f"{output}error: {done.exception}"
        elif done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        found.append((code, output))
    return found
