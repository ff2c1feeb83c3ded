"""Payload to arrays: what fits becomes arrays, everything else a message that names the place."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.errors import InputError
from schemas.records import ServedDomain
from serving.domains import DomainCheck
from serving.features import Feature
from serving.inputs import (
    Tensor,
    check_keys,
    check_outputs,
    from_v1,
    from_v2,
    parse_json,
    wants_latent,
)

IMAGE = Feature("image", "float32", (64,))
GRID = Feature("grid", "float32", (2, 3))
AGE = Feature("age", "int64", ())
CITY = Feature("city", "string", ())
TAGS = Feature("tags", "string", (None,))
COMPANY = Feature("company", "string", (), ("unknown",))
ROW = [0.5] * 64
WORDS = ("NA", "n/a")


def refusal_v1(payload: object, *features: Feature, missing: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as caught:
        from_v1(payload, features, missing)
    return str(caught.value)


def refusal_v2(tensors: list[Tensor], *features: Feature) -> str:
    with pytest.raises(InputError) as caught:
        from_v2(tensors, features)
    return str(caught.value)


def test_v1_rows_become_one_array_per_feature() -> None:
    payload = {
        "instances": [
            {"image": ROW, "age": 3, "city": "Łódź"},
            {"image": [1] * 64, "age": -4.0, "city": ""},
        ]
    }
    arrays = from_v1(payload, [IMAGE, AGE, CITY])
    assert arrays["image"].dtype == np.float32 and arrays["image"].shape == (2, 64)
    assert arrays["age"].dtype == np.int64 and arrays["age"].tolist() == [3, -4]
    assert arrays["city"].tolist() == ["Łódź".encode(), b""]


def test_body_has_each_key_once() -> None:
    for body in (b'{"instances": [{"age": 1, "age": 2}]}', b'{"instances": [], "instances": []}'):
        with pytest.raises(InputError, match=r"must have each key of an object once.*twice"):
            parse_json(body)
    kept = b'{"instances": [{"city": "12:30", "age": 1}]}'  # as many colons as two keys more
    assert parse_json(kept) == json.loads(kept)


def test_request_asks_for_nothing_that_would_be_ignored() -> None:
    check_keys({"instances": [], "signature_name": "serving_default", "parameters": {}})
    with pytest.raises(InputError, match="signature_name must be `serving_default`"):
        check_keys({"instances": [], "signature_name": "regress"})
    with pytest.raises(InputError, match="Did you mean `instances`"):
        check_keys({"instances": [], "instance": []})


def test_words_that_mean_no_value() -> None:
    """They are as good as left out: a default stands for them, or the feature must be sent."""
    rows = {"instances": [{"age": "n/a", "company": "n/a"}]}
    assert "instances[0] must have the feature age" in refusal_v1(rows, AGE, COMPANY, missing=WORDS)
    rows["instances"][0]["age"] = 1  # type: ignore[assignment]
    assert from_v1(rows, [AGE, COMPANY], WORDS)["company"].tolist() == [b"unknown"]
    tensor = Tensor("company", [2], "BYTES", ["n/a", "Blue"])
    assert from_v2([tensor], [COMPANY], WORDS)["company"].tolist() == [b"unknown", b"Blue"]
    with pytest.raises(InputError, match=r"inputs\[0\] \(city\) row 1 must have a value"):
        from_v2([Tensor("city", [2], "BYTES", ["a", "n/a"])], [CITY], WORDS)


DOMAINS = [
    Feature("age", "int64", (), domain=ServedDomain(low=0, high=120)),
    Feature("city", "string", (), ("none",), ServedDomain(values=["Turin", "Rome"])),
    Feature("pair", "float32", (2,), domain=ServedDomain(high=1.0)),
]


def test_values_outside_their_domain() -> None:
    rows = [
        {"age": 41, "city": "Rome", "pair": [0, 1]},
        {"age": 121, "city": "Atlantis", "pair": [0, 1.5]},
        {"age": -1, "pair": [-9, 0]},  # the default is no value that a client sent
    ]
    arrays = from_v1({"instances": rows}, DOMAINS)
    flags = DomainCheck("flag").check(arrays, DOMAINS)
    assert [str(each) for each in flags.first] == [
        "instances[1].age must be from 0 to 120. Received: 121",
        "instances[2].age must be from 0 to 120. Received: -1",
        "instances[1].city must be one of Rome, Turin. Received: the string 'Atlantis'",
        "instances[1].pair must be at most 1. Received: 1.5",
    ]
    assert flags.count == 4 and flags.as_json()["first"][0]["instance"] == 1
    counting = DomainCheck("count")
    assert not counting.check(arrays, DOMAINS)
    assert counting.counts == {"age": 2, "city": 1, "pair": 1}
    with pytest.raises(InputError, match=r"instances\[1\]\.age must be from 0 to 120"):
        DomainCheck("refuse").check(arrays, DOMAINS)
    good = from_v1({"instances": rows[:1]}, DOMAINS)
    assert not DomainCheck("refuse").check(good, DOMAINS)


def test_v1_takes_bare_values_of_a_single_feature() -> None:
    assert from_v1({"instances": [ROW, {"image": ROW}]}, [IMAGE])["image"].shape == (2, 64)
    assert from_v1({"instances": ["a", "b"]}, [CITY])["city"].tolist() == [b"a", b"b"]


def test_bytes_are_base64_in_an_object() -> None:
    tiff = {"b64": "SUkqAP8="}  # no text in UTF-8
    one = from_v1({"instances": [{"city": tiff, "age": 1}, {"city": "a", "age": 1}]}, [CITY, AGE])
    assert one["city"].tolist() == [b"II*\x00\xff", b"a"]
    # Of a single feature the value may stand alone, as for TensorFlow Serving.
    assert from_v1({"instances": [tiff]}, [CITY])["city"].tolist() == [b"II*\x00\xff"]
    assert from_v1({"instances": [{"b64": "a"}]}, [Feature("b64", "string", ())])["b64"] == [b"a"]
    assert from_v1({"instances": [[tiff, "a"]]}, [TAGS])["tags"].tolist() == [
        [b"II*\x00\xff", b"a"]
    ]
    sent = Tensor("city", [2], "BYTES", [tiff, b"\xff"])
    assert from_v2([sent], [CITY])["city"].tolist() == [b"II*\x00\xff", b"\xff"]


@pytest.mark.parametrize(
    ("value", "feature", "parts"),
    [
        (
            {"b64": "***"},
            CITY,
            ["instances[0].city.b64 must be base64", "Send the bytes in base64"],
        ),
        ({"b64": 3}, CITY, ["instances[0].city must be a string", '{"b64": "..."}']),
        ({"b64": "", "c": ""}, CITY, ["instances[0].city must be a string"]),
        ({"b64": "AAAA"}, AGE, ["instances[0].age must be an integer (int64)"]),
    ],
)
def test_base64_that_does_not_fit_is_refused(
    value: object, feature: Feature, parts: list[str]
) -> None:
    message = refusal_v1({"instances": [{feature.name: value}]}, feature)
    assert all(part in message for part in parts), message


def test_v1_nested_and_free_lengths() -> None:
    assert from_v1({"instances": [[[1, 2, 3], [4, 5, 6]]]}, [GRID])["grid"].tolist() == [
        [[1, 2, 3], [4, 5, 6]]
    ]
    assert from_v1({"instances": [["a", "b"], ["c", "d"]]}, [TAGS])["tags"].shape == (2, 2)
    assert from_v1({"instances": [[], []]}, [TAGS])["tags"].shape == (2, 0)


def test_v1_wrong_length_says_everything() -> None:
    message = refusal_v1({"instances": [{"image": ROW}, {"image": ROW[1:]}]}, IMAGE)
    assert (
        message
        == "instances[1].image must be 64 numbers (float32). Received: a list of 63 numbers. Send every "
        "value."
    )


@pytest.mark.parametrize(
    ("instance", "parts"),
    [
        ({}, ["instances[0] must have the features image, age, city", "none"]),
        ({"image": ROW, "age": 1}, ["instances[0] must have the feature city", "image, age"]),
        ({"image": ROW, "agee": 1, "city": ""}, ["instances[0].agee", "Did you mean `age`?"]),
        (
            {"image": ROW, "age": 1, "city": "", "x": 1},
            ["instances[0].x", "(image, age, city)", "Leave it out."],
        ),
        (
            {"image": "abc", "age": 1, "city": ""},
            ["instances[0].image", "the string 'abc'", "Send a list."],
        ),
        ({"image": None, "age": 1, "city": ""}, ["instances[0].image", "null"]),
        (
            {"image": [*ROW[1:], None], "age": 1, "city": ""},
            ["instances[0].image[63]", "a number", "null"],
        ),
        (
            {"image": [*ROW[1:], "one"], "age": 1, "city": ""},
            ["instances[0].image[63]", "the string 'one'"],
        ),
        ({"image": [*ROW[1:], [1]], "age": 1, "city": ""}, ["instances[0].image[63]", "1 number"]),
        ({"image": [*ROW[1:], "nan"], "age": 1, "city": ""}, ["image[63]", "'nan'", "finite"]),
        ({"image": [*ROW[1:], float("nan")], "age": 1, "city": ""}, ["image[63]", "nan", "finite"]),
        (
            {"image": [*ROW[1:], float("-inf")], "age": 1, "city": ""},
            ["image[63]", "-inf", "finite"],
        ),
        ({"image": [*ROW[1:], 1e39], "age": 1, "city": ""}, ["image[63]", "1e+39", "3.4e+38"]),
        (
            {"image": [*ROW[1:], 10**400], "age": 1, "city": ""},
            ["image[63]", "more than 60 digits"],
        ),
        ({"image": ROW, "age": 1.5, "city": ""}, ["instances[0].age", "an integer (int64)", "1.5"]),
        ({"image": ROW, "age": 2**63, "city": ""}, ["instances[0].age", "9223372036854775807"]),
        ({"image": ROW, "age": [1], "city": ""}, ["instances[0].age", "a list of 1 number"]),
        ({"image": ROW, "age": {}, "city": ""}, ["instances[0].age", "an object with no keys"]),
        ({"image": ROW, "age": 1, "city": 7.5}, ["instances[0].city", "a string", "7.5"]),
        ({"image": ROW, "age": 1, "city": True}, ["instances[0].city", "a string", "true"]),
        ({"image": ROW, "age": 1, "city": "\ud800"}, ["instances[0].city", "\\ud800", "UTF-8"]),
        ({"image": ROW, "age": 1, "\ud800": 1}, ["instances[0].\\ud800"]),
        ([1, 2], ["instances[0] must be an object", "2 numbers", '"image": ...']),
        (None, ["instances[0] must be an object", "null"]),
    ],
)
def test_v1_names_feature_and_instance(instance: object, parts: list[str]) -> None:
    message = refusal_v1({"instances": [instance]}, IMAGE, AGE, CITY)
    assert all(part in message for part in parts), message
    message.encode()  # whatever was received, the message can be sent


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        ([], "must be an object. Received: a list of 0 values"),
        (None, "must be an object. Received: null"),
        ({"instance": []}, "must have the key `instances`"),
        ({"instances": {}}, "instances must be a list"),
        ({"instances": "x"}, "instances must be a list"),
        ({"instances": []}, "at least one instance"),
    ],
)
def test_v1_wrong_envelope(payload: object, part: str) -> None:
    assert part in refusal_v1(payload, IMAGE)


def test_v1_ragged_nesting() -> None:
    assert "instances[0].grid[1] must be 3 numbers" in refusal_v1(
        {"instances": [[[1, 2, 3], [4, 5]]]}, GRID
    )
    deep = refusal_v1({"instances": [[1, 2, 3]]}, GRID)
    assert (
        "instances[0].grid must be nested lists of 2 x 3 numbers (float32). Received: a list of 3 numbers"
        in deep
    )
    assert "2 as in the first instance" in refusal_v1({"instances": [["a", "b"], ["c"]]}, TAGS)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"1" * 5_000, b'{"a": }'])
def test_bodies_that_are_not_json_or_not_instances(body: bytes) -> None:
    with pytest.raises(InputError):
        from_v1(parse_json(body), [IMAGE])


def test_nan_in_json_is_told_by_feature() -> None:
    parsed = parse_json(b'{"instances": [{"age": NaN}]}')
    assert "instances[0].age must be an integer (int64). Received: nan" in refusal_v1(parsed, AGE)


def test_v2_flat_nested_and_compatible_datatypes() -> None:
    flat = Tensor("grid", [2, 2, 3], "FP32", [0.1] * 12)
    nested = Tensor("grid", [2, 2, 3], "INT8", [[[1, 2, 3], [4, 5, 6]]] * 2)
    assert from_v2([flat], [GRID])["grid"].tolist() == np.full((2, 2, 3), 0.1, np.float32).tolist()
    assert from_v2([nested], [GRID])["grid"].shape == (2, 2, 3)
    assert (
        from_v2([Tensor("grid", [1, 2, 3], "FP64", [0.5] * 6)], [GRID])["grid"].dtype == np.float32
    )
    assert from_v2([Tensor("age", [2], "INT32", [1, 2])], [AGE])["age"].dtype == np.int64
    assert from_v2([Tensor("age", [1], "FP64", [3.0])], [AGE])["age"].tolist() == [3]
    assert from_v2([Tensor("city", [1], "BYTES", ["é"])], [CITY])["city"].tolist() == ["é".encode()]


@pytest.mark.parametrize(
    ("tensors", "parts"),
    [
        ([], ["inputs must have the features grid, age"]),
        (
            [Tensor("grod", [1, 2, 3], "FP32", [0.0] * 6)],
            ["inputs[0].name", "Did you mean `grid`?"],
        ),
        ([Tensor(["grid"], [1, 2, 3], "FP32", [0.0] * 6)], ["inputs[0].name", "grid, age"]),
        (
            [Tensor("grid", [1, 2, 3], "FP32", [0.0] * 6)],
            ["must have the feature age", "Received: grid"],
        ),
        ([Tensor("age", [1], "INT64", [1])] * 2, ["inputs[1] must be another feature"]),
        ([Tensor("grid", [1, 6], "FP32", [0.0] * 6)], ["inputs[0] (grid)", "[n, 2, 3]", "[1, 6]"]),
        ([Tensor("grid", [-1, 2, 3], "FP32", [0.0] * 6)], ["inputs[0] (grid)", "[-1, 2, 3]"]),
        ([Tensor("grid", "x", "FP32", [])], ["inputs[0] (grid)", "the string 'x'"]),
        ([Tensor("grid", [0, 2, 3], "FP32", [])], ["at least one row"]),
        ([Tensor("grid", [1, 2, 3], "FP32", [0.0] * 5)], ["must hold 6 values", "5 numbers"]),
        (
            [Tensor("grid", [1, 2, 3], "FP32", [[[1, 2, 3], [4]]])],
            ["nested as its shape", "ragged"],
        ),
        ([Tensor("grid", [1, 2, 3], "FP32", {})], ["the list `data`", "an object"]),
        ([Tensor("grid", [1, 2, 3], "BYTES", ["a"] * 6)], ["datatype FP32", "BYTES"]),
        ([Tensor("city", [1], "BOOL", [True])], ["inputs[0].name"]),
        ([Tensor("grid", [1, 2, 3], ["FP32"], [])], ["datatype FP32"]),
        (
            [Tensor("grid", [2, 2, 3], "FP32", [0.0] * 10 + ["x", 0.0])],
            ["inputs[0] (grid) row 1 value 4", "'x'"],
        ),
        (
            [Tensor("grid", [1, 2, 3], "FP64", [0.0] * 5 + [0.1])],
            ["row 0 value 5", "rounded", "FP32"],
        ),
        (
            [Tensor("grid", [1, 2, 3], "INT32", [0] * 5 + [2**24 + 1])],
            ["row 0 value 5", "16777217", "rounded"],
        ),
        ([Tensor("age", [1], "INT8", [300])], ["inputs[0] (age) row 0 must be an INT8", "300"]),
        ([Tensor("age", [1], "UINT64", [2**63])], ["inputs[0] (age) row 0", "9223372036854775807"]),
        ([Tensor("age", [1], "FP32", [1.5])], ["an integer (int64)", "1.5"]),
        (
            [Tensor("grid", [1, 2, 3], "FP32", [0.0] * 6), Tensor("age", [2], "INT64", [1, 2])],
            ["the same number of rows", "grid 1, age 2"],
        ),
    ],
)
def test_v2_names_tensor_and_row(tensors: list[Tensor], parts: list[str]) -> None:
    message = refusal_v2(tensors, GRID, AGE)
    assert all(part in message for part in parts), message


def test_unknown_output() -> None:
    known = ["class", "probabilities"]
    check_outputs(known, known)
    with pytest.raises(InputError, match="Did you mean `class`"):
        check_outputs(["clas"], known)


HOURS = Feature("hours", "int64", (2,), (0, 12))


def test_v1_defaults_stand_for_what_is_left_out_or_null() -> None:
    rows = [
        {"age": 1},
        {"age": 2, "hours": [3, 4], "company": "Blue"},
        {"age": 3, "hours": None, "company": None},
    ]
    arrays = from_v1({"instances": rows}, [AGE, HOURS, COMPANY])
    assert (
        arrays["hours"].tolist() == [[0, 12], [3, 4], [0, 12]] and arrays["hours"].dtype == np.int64
    )
    assert arrays["company"].tolist() == [b"unknown", b"Blue", b"unknown"]
    assert from_v1({"instances": [{}, {}]}, [HOURS, COMPANY])["hours"].tolist() == [
        [0, 12],
        [0, 12],
    ]


def test_v2_defaults_stand_for_tensors_left_out() -> None:
    arrays = from_v2([Tensor("age", [2], "INT64", [1, 2])], [AGE, HOURS, COMPANY])
    assert arrays["hours"].tolist() == [[0, 12], [0, 12]] and arrays["hours"].dtype == np.int64
    assert arrays["company"].tolist() == [b"unknown", b"unknown"]


def test_what_has_no_default_must_be_sent() -> None:
    assert "instances[0] must have the feature age" in refusal_v1({"instances": [{}]}, AGE, HOURS)
    assert "must have the feature age" in refusal_v2(
        [Tensor("hours", [1, 2], "INT64", [3, 4])], AGE, HOURS
    )
    # No tensor at all does not say how many rows there are.
    assert "inputs must have the features hours, company" in refusal_v2([], HOURS, COMPANY)


def test_what_is_sent_for_an_optional_feature_must_fit() -> None:
    assert "instances[1].hours must be 2 integers" in refusal_v1(
        {"instances": [{}, {"hours": [1]}]}, HOURS
    )
    assert "instances[0].company must be a string" in refusal_v1(
        {"instances": [{"company": 3.5}]}, HOURS, COMPANY
    )


@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        ({"instances": []}, False),
        ({"parameters": None}, False),
        ({"parameters": {}}, False),
        ({"parameters": {"latent": False}}, False),
        ({"parameters": {"latent": True}}, True),
        ([], False),
    ],
)
def test_latent_is_given_only_when_asked_for(payload: object, wanted: bool) -> None:
    assert wants_latent(payload) is wanted


@pytest.mark.parametrize(
    ("parameters", "part"),
    [
        ([], "parameters must be an object. Received: a list of 0 values"),
        ({"latnt": True}, "parameters.latnt must be `latent`"),
        ({"latent": "yes"}, "parameters.latent must be true or false. Received: the string 'yes'"),
        ({"latent": 1}, "parameters.latent must be true or false. Received: 1"),
    ],
)
def test_parameters_of_another_form(parameters: object, part: str) -> None:
    with pytest.raises(InputError) as caught:
        wants_latent({"instances": [], "parameters": parameters})
    assert part in str(caught.value) and 'Send "parameters": {"latent": true}' in str(caught.value)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=4), inner)
        | st.fixed_dictionaries({"b64": inner})
    ),
    max_leaves=12,
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "grid": values | st.just([[1, 2, 3], [4, 5, 6]]),
        "age": values,
        "city": values,
        "tags": values,
        "x": values,
    },
)
FEATURES = (GRID, AGE, Feature("city", "string", (), ("unknown",)), TAGS)


@settings(max_examples=300)
@given(values | st.fixed_dictionaries({"instances": values | st.lists(near_misses, max_size=3)}))
def test_any_v1_payload_is_arrays_or_a_message(payload: object) -> None:
    try:
        arrays = from_v1(payload, FEATURES)
    except InputError as error:
        json.dumps({"error": str(error)}, ensure_ascii=False).encode()
        return
    rows = {len(array) for array in arrays.values()}
    assert set(arrays) == {feature.name for feature in FEATURES} and len(rows) == 1


tensors = st.builds(
    Tensor,
    st.sampled_from(["grid", "age", "city", "tags"]) | values,
    st.sampled_from([[1, 2, 3], [1], [2], [1, 2]]) | values,
    st.sampled_from(["FP32", "FP64", "INT64", "INT8", "UINT64", "BYTES", "BOOL"]) | values,
    st.lists(scalars, max_size=6) | values,
)


@settings(max_examples=300)
@given(
    st.lists(tensors, max_size=3),
    st.sampled_from(
        [(GRID,), (AGE,), (CITY,), (TAGS,), (GRID, AGE), (AGE, HOURS), (HOURS, COMPANY)]
    ),
)
def test_any_v2_tensors_are_arrays_or_a_message(
    received: list[Tensor], features: tuple[Feature, ...]
) -> None:
    try:
        arrays = from_v2(received, features)
    except InputError as error:
        json.dumps({"error": str(error)}, ensure_ascii=False).encode()
        return
    assert set(arrays) == {feature.name for feature in features}


@given(
    st.lists(
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3
        ),
        min_size=1,
    )
)
def test_float32_values_arrive_unchanged(rows: list[list[float]]) -> None:
    feature = Feature("x", "float32", (3,))
    exact = Tensor("x", [len(rows), 3], "FP64", [value for row in rows for value in row])
    assert from_v1({"instances": rows}, [feature])["x"].tolist() == rows
    assert from_v2([exact], [feature])["x"].tolist() == rows
