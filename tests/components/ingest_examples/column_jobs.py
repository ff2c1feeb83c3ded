"""Reading in columns against reading row by row: what runs in a warm process."""

from __future__ import annotations

import datetime
import decimal
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.project import SPLITS
from tests.components.ingest_examples.jobs import COLUMNS, as_csv, make_project

NOT_FINITE = ["nan", "-nan", "NAN", "inf", "-Infinity", "nan(1)", "1e400"]
ODD_NUMBERS = [*NOT_FINITE, "3.0", "1e3", "-0", "+1", "007", "0x1F", "1_0", "1.", ".5", ","]


def check_columns_give_what_rows_give(folder: Path) -> None:
    """Whatever a file holds, its blocks give the examples and the rows set aside that its rows give one by one."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    odd = st.text(st.sampled_from("aé\"',;\t|\n\r[]{}\0 1.-+_ex\ufeff\u2028\U0001f600"), max_size=8)
    number = st.one_of(
        st.floats().map(str),
        st.floats(width=32).map(repr),
        st.integers(-(2**70), 2**70).map(str),
        st.sampled_from(ODD_NUMBERS),
        odd,
    )
    plain = st.one_of(st.just(""), st.integers(0, 9).map(str), st.floats(-9, 9).map(str))
    usual = st.fixed_dictionaries(
        {
            "id": st.integers(0, 10**6).map(str),
            "fare": plain,
            "seats": st.just("2"),
            "note": st.text("ab, "),
            "label": st.just("1"),
        }
    )
    rare = st.fixed_dictionaries(
        {"id": odd, "fare": number, "seats": number, "note": odd, "label": number}
    )
    path_text = st.sampled_from(["", "[1, 2]", "[]", "3", "[1, null]"])
    near = st.builds(
        lambda row, name, cell: {**row, name: cell}, usual, st.sampled_from(COLUMNS), number
    )
    # Of one odd cell among good ones both ways must think the same; a row that is all odd fails for
    # many reasons.
    rows = st.lists(st.one_of(*[usual] * 20, near, near, rare), min_size=1, max_size=90) | st.lists(
        near, min_size=1, max_size=2
    )
    raw = st.lists(
        st.one_of(
            st.binary(max_size=9),
            st.sampled_from([b'"', b"\n", b"\r\n", b",", b";", b"\t", b'""', b"a"]),
        ),
        max_size=9,
    )
    scalar = st.one_of(st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(), odd)
    number_lists = st.lists(st.integers(-5, 5) | st.floats(), max_size=3)
    value = scalar | number_lists | st.dictionaries(odd, st.integers(), max_size=1)
    fare = st.floats(width=32) | st.integers(-9, 9)
    typed = st.fixed_dictionaries(
        {"id": odd | st.integers(0, 99).map(str), "label": st.sampled_from([0, 1, 1, 2.0, 7])},
        optional={"fare": fare, "seats": st.integers(), "note": odd, "path": value, "more": value},
    )
    project = make_project(folder / "rides")
    check = settings(
        max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )

    @check
    @given(
        rows,
        st.booleans(),
        st.sampled_from(["\n", "\r\n"]),
        st.sampled_from([b"", b"\xef\xbb\xbf"]),
        st.sampled_from([",", ",", ";", "\t", "|"]),
        path_text,
        raw,
        st.integers(0, 99),
    )
    def csv(
        rows: list[Any],
        quoted: bool,
        end: str,
        mark: bytes,
        delimiter: str,
        text: str,
        odd_bytes: list[bytes],
        place: int,
    ) -> None:
        whole = [{**row, "path": text} for row in rows]
        data = as_csv(whole, [*COLUMNS, "path"], quoted, delimiter)
        lines = (mark + data.replace(b"\n", end.encode())).splitlines(keepends=True)
        lines.insert(min(place + 1, len(lines)), b"".join(odd_bytes))
        _compare(project, folder / "a.csv", b"".join(lines), delimiter)

    @check
    @given(st.lists(typed, min_size=1, max_size=90), raw, st.integers(0, 99))
    def jsonl(rows: list[Any], odd_bytes: list[bytes], place: int) -> None:
        lines = [json.dumps(row).encode() + b"\n" for row in rows]
        lines.insert(min(place, len(lines)), b"".join(odd_bytes))
        _compare(project, folder / "a.jsonl", b"".join(lines))

    text = [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
    lists = [pa.list_(pa.float32()), pa.list_(pa.int64()), pa.list_(pa.string())]
    numbers = [
        pa.int8(),
        pa.uint64(),
        pa.float16(),
        pa.float32(),
        pa.float64(),
        pa.bool_(),
        pa.decimal128(9, 2),
    ]
    kinds = st.sampled_from([*text, *lists, *numbers, pa.date32()])

    @check
    @given(st.lists(kinds, min_size=5, max_size=5), st.data())
    def parquet(types: list[pa.DataType], data: Any) -> None:
        size = data.draw(st.integers(1, 70))
        names = ["fare", "seats", "note", "path", "more"]
        columns: dict[str, Any] = {"id": [f"{n % 65}" for n in range(size)], "label": [1] * size}
        for name, kind in zip(names, types, strict=True):
            drawn = data.draw(st.lists(_values_of(kind), min_size=1, max_size=3))
            columns[name] = pa.array([drawn[n % len(drawn)] for n in range(size)], kind)
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink, row_group_size=50)
        _compare(project, folder / "a.parquet", sink.getvalue())

    for test in (csv, jsonl, parquet):
        test()


def _values_of(kind: pa.DataType) -> Any:
    from hypothesis import strategies as st

    if pa.types.is_list(kind):
        return st.none() | st.lists(_values_of(kind.value_type), max_size=3)
    found: dict[Any, Any] = {
        pa.int8(): st.integers(-9, 9),
        pa.int64(): st.integers(-(2**63), 2**63 - 1),
        pa.uint64(): st.integers(0, 2**64 - 1),
        pa.bool_(): st.booleans(),
        pa.float16(): st.sampled_from([1.0, 2.5]).map(np.float16),
        pa.float32(): st.floats(width=32),
        pa.float64(): st.floats(),
        pa.binary(): st.binary(max_size=4),
        pa.decimal128(9, 2): st.sampled_from(["1.00", "2.50"]).map(decimal.Decimal),
        pa.date32(): st.just(datetime.date(2026, 1, 2)),
    }
    return st.none() | found.get(kind, st.text(max_size=4))


def _compare(project: Any, path: Path, data: bytes, delimiter: str = ",") -> None:
    from components.ingest_examples.duplicates import find_duplicates
    from components.ingest_examples.part_reader import KEYS, SET_ASIDE, TALLY, Plan, read_part
    from components.ingest_examples.row_rules import RowRules, label_domain
    from components.ingest_examples.tallies import Tally
    from perennial.readers.columns import columns_of
    from perennial.readers.rows import Part
    from schemas.records import SetAside

    path.write_bytes(data)
    rules = RowRules("id", "label", label_domain(project.schema, "label"))
    form: Any = path.suffix[1:]
    part = Part(str(path), path.name, form, delimiter=delimiter)
    plan = Plan("s", [part], rules, project.settings.data.splits, 1, columns_of(project.schema))
    found: dict[str, list[Any]] = {}
    for name, value in read_part(plan, 0):
        found.setdefault(name, []).extend(value if name in SPLITS else [value])
    examples, reasons, keys, labelled = _row_by_row(plan)
    assert {name: found.get(name, []) for name in SPLITS} == examples
    asides = [SetAside.model_validate_json(line) for line in found.get(SET_ASIDE, [])]
    assert [(aside.place, aside.reasons) for aside in asides] == reasons
    tally = Tally.model_validate_json(found[TALLY][0])
    assert tally.rows == {name: len(rows) for name, rows in examples.items() if rows}
    assert tally.labelled == labelled and tally.set_aside == len(reasons)
    shards: dict[int, list[bytes]] = {}
    for shard, batch in found.get(KEYS, []):
        shards.setdefault(shard, []).append(batch)
    duplicates = {
        tuple(item[1]) for batches in shards.values() for item in find_duplicates(batches)
    }
    assert duplicates == {
        (len(n), len({e for _, e in n}) == 1, 0, n[0][0]) for n in keys.values() if len(n) > 1
    }


def _row_by_row(
    plan: Any,
) -> tuple[dict[str, list[bytes]], list[tuple[str, list[str]]], dict[str, list[Any]], int]:
    """Examples by split, places and reasons of the other rows, where each key stands, and the rows with a label."""
    from perennial.data.examples import split_of, text_of, to_example
    from perennial.errors import DataError
    from perennial.readers.convert import Conformer
    from perennial.readers.read import read_rows

    conformer, part = Conformer(plan.columns, plan.max_value_mb), plan.parts[0]
    examples: dict[str, list[bytes]] = {name: [] for name in SPLITS}
    asides: list[tuple[str, list[str]]] = []
    keys: dict[str, list[Any]] = {}
    labelled = 0
    try:
        for row in read_rows(part, plan.max_value_mb):
            labelled += row.values.get("label") is not None
            values, reasons = conformer.conform({} if row.reason else row.values)
            reasons = [row.reason] if row.reason else reasons or plan.rules.check(values)
            if reasons:
                asides.append((part.place(row.number), [str(reason) for reason in reasons]))
                continue
            serialised = to_example(values).SerializeToString(deterministic=True)
            key = text_of(values["id"])
            keys.setdefault(key, []).append((row.number, serialised))
            examples[split_of(key, plan.splits)].append(serialised)
    except DataError:
        pass  # both end at the same row
    return examples, asides, keys, labelled
