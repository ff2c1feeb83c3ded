"""Answers from people's tools: Label Studio's exports, and CSV."""

from __future__ import annotations

import json

import pytest

from perennial.errors import DataError
from perennial.production.label_files import check_output, read_answers


def answers(path):
    return [(key, label) for _, key, label in read_answers(path, "id", "label")]


def annotation(kind, value, at="2026-01-01", cancelled=False):
    result = [{"type": kind, "value": {kind: value}}]
    return {"was_cancelled": cancelled, "updated_at": at, "result": result}


def test_label_studios_json_gives_the_newest_answer_that_was_not_cancelled(tmp_path):
    path = tmp_path / "export.json"
    tasks = [
        {"data": {"id": "a"}, "annotations": [annotation("choices", ["3"])]},
        {"data": {"id": 7}, "annotations": [annotation("number", 2.5)]},
        {
            "data": {"id": "c"},
            "annotations": [
                annotation("text", ["new"], "2026-02-01"),
                annotation("text", ["old"], "2026-01-01"),
                annotation("text", ["cancelled"], "2026-03-01", cancelled=True),
            ],
        },
        {"data": {"id": "d"}, "annotations": []},
        {"data": {"id": "e"}, "annotations": [annotation("choices", [], cancelled=True)]},
    ]
    path.write_text(json.dumps(tasks))
    assert answers(path) == [("a", "3"), ("7", 2.5), ("c", "new"), ("d", None), ("e", None)]


def test_json_min_and_csv(tmp_path):
    path = tmp_path / "min.json"
    path.write_text(json.dumps([{"id": "a", "label": "3"}, {"id": "b"}, {"id": "c", "label": 0}]))
    assert answers(path) == [("a", "3"), ("b", None), ("c", 0)]
    table = tmp_path / "table.csv"
    table.write_text("\ufeffid,x,label\na,1,3\nb,2, \n", encoding="utf-8")
    assert answers(table) == [("a", "3"), ("b", None)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "must be Label Studio's JSON"),
        ('{"id": "a"}', "JSON that is no list"),
        ('[{"other": 1}]', "must have the key of its example, `id`. Received: other, …"),
        (
            '[{"data": {"id": 1}, "annotations": [{"result": [{"value": {"polygon": []}}]}]}]',
            "must be labelled by choices, a number, a text or a rating. Received: polygon",
        ),
    ],
)
def test_another_file_is_named_with_its_task(tmp_path, text, says):
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(DataError) as error:
        answers(path)
    assert says in str(error.value)


def test_another_ending_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(DataError, match=r"must end in \.json"):
        check_output(tmp_path / "tasks.xlsx")
