"""Categories and text: hashes that never change, words in one normal form."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest

from tests.forked import forked
from tests.perennial.features.jobs import apply, apply_all, call

WORDS = ["card", "cash", "", "ünïcode", "7"]


def test_hashes_are_those_of_every_other_process_and_release():
    once, again = apply("hashed", WORDS, 1000), apply("hashed", WORDS, 1000)
    assert once == again == HASHES


# Written down once: a change would give every trained model other features.
HASHES = [483, 587, 930, 248, 400]


def test_hashes_fill_the_buckets_evenly():
    names = [f"company {number}" for number in range(20_000)]
    counts = np.bincount(apply("hashed", names, 10), minlength=10)
    assert counts.min() > 1800 and counts.max() < 2200


def test_numbers_hash_as_their_text_and_salt_changes_the_hash():
    numbers, text, salted = apply_all(
        [
            ("hashed", ([7, 12, -3], 1000), {}),
            ("hashed", (["7", "12", "-3"], 1000), {}),
            ("hashed", ([7, 12, -3], 1000), {"salt": 1}),
        ],
    )
    assert numbers == text != salted


def test_missing_category_stays_missing():
    found = apply("hashed", ["card", None], 1000)
    assert found == [HASHES[0], None]


def test_crosses_tell_combinations_apart():
    draw = random.Random(1)
    pairs = {("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("1:a", "b"), ("1", "a:b")}
    pairs |= {
        tuple("".join(draw.choices("ab:1", k=draw.randrange(4))) for _ in range(2))
        for _ in range(300)
    }
    left, right = (list(side) for side in zip(*sorted(pairs), strict=True))
    found = apply("crossed", left, right, buckets=2**40)
    assert len(set(found)) == len(pairs)


def test_cross_of_numbers_and_text_depends_on_the_order():
    one, other, alone = apply_all(
        [
            ("crossed", ([1, 1], ["a", "b"]), {"buckets": 10**6}),
            ("crossed", (["a", "b"], [1, 1]), {"buckets": 10**6}),
            ("crossed", ([1],), {"buckets": 9}),
        ],
    )
    assert len({*one, *other}) == 4
    assert alone == "ValueError: features.crossed: values must be two tensors or more. Received: 1."


NORMAL = {
    "  Taxi -- Affiliation   Services ": "taxi affiliation services",
    "ÉCOLE\u00a0Ünï\tCODE\n": "école ünï code",
    "ΑΘΗΝΑ Москва": "αθηνα москва",
    "don't stop!!!": "don t stop",
    "a\x00b\x1fc\u200bd": "a b c d",
    "5€ + 3$": "5 3",
    "日本、東京": "日本 東京",
    "...": "",
    "": "",
}


def test_normal_form():
    assert dict(zip(NORMAL, apply("normalised_text", list(NORMAL)), strict=True)) == {
        text: expected.encode() for text, expected in NORMAL.items()
    }


def test_what_is_not_utf8_separates_words():
    assert apply("normalised_text", [b"A\xffB", b"\xc3"]) == [b"a b", b""]


def _texts(count):
    draw = random.Random(2)
    letters = string.printable + "ÄÖÜßéÉİΣσς日本\u00a0\u2003\u200d\U0001f600"
    return ["".join(draw.choices(letters, k=draw.randrange(30))) for _ in range(count)]


def normalise_twice(texts):
    once = call("normalised_text", (texts,), {})
    return once, call("normalised_text", (once,), {})


def test_normal_form_is_its_own_normal_form():
    once, twice = forked(normalise_twice, _texts(500))
    assert once == twice
    for text in (value.decode() for value in once):
        assert text == " ".join(text.split()) and not set(text) & set(
            string.ascii_uppercase + string.punctuation
        )


def test_tokens_are_the_first_words():
    found = apply("tokens", ["One two, THREE four", "", "one"], 3)
    assert found == [[b"one", b"two", b"three"], [b"", b"", b""], [b"one", b"", b""]]


def test_missing_text_has_no_words():
    words, counts = apply_all(
        [("tokens", ([None, "a b"], 2), {}), ("hashed_token_counts", ([None, "a b"], 4), {})]
    )
    assert words == [[b"", b""], [b"a", b"b"]]
    assert counts[0] == [0.0] * 4 and sum(counts[1]) == 2


def test_token_counts_are_those_of_the_words():
    texts = [text for text in _texts(200)]
    counts, words = apply_all(
        [("hashed_token_counts", (texts, 16), {}), ("tokens", (texts, 40), {})]
    )
    hashes = apply("hashed", [word for row in words for word in row], 16)
    expected = np.zeros((len(texts), 16))
    for place, (word, bucket) in enumerate(
        zip((w for row in words for w in row), hashes, strict=True)
    ):
        expected[place // 40, bucket] += word != b""
    np.testing.assert_array_equal(counts, expected)


def test_columns_of_one_value_are_taken():
    found = apply_all(
        [("tokens", ([["a b"], ["c"]], 2), {}), ("hashed_token_counts", ([["a"], ["b"]], 8), {})]
    )
    assert found[0] == [[b"a", b"b"], [b"c", b""]] and np.shape(found[1]) == (2, 8)


HASHED, CROSSED, TOKENS = "features.hashed: ", "features.crossed: ", "features.tokens: "
SPARSE = "must be a dense tensor. Received: SparseTensor. Give it features.filled(x, default)."
MESSAGES = {
    f"TypeError: {HASHED}values must be text or whole numbers. Received: a tensor of float32.": (
        ("hashed", ([0.5], 10), {})
    ),
    f"ValueError: {HASHED}buckets must be a whole number above 0. Received: 0.": (
        "hashed",
        (["a"], 0),
        {},
    ),
    f"TypeError: {CROSSED}values[0] {SPARSE}": (
        "crossed",
        (["a", None], ["b", "c"]),
        {"buckets": 9},
    ),
    "TypeError: features.normalised_text: values must be text. Received: a tensor of int64.": (
        ("normalised_text", ([1],), {})
    ),
    f"ValueError: {TOKENS}max_tokens must be a whole number above 0. Received: '3'.": (
        "tokens",
        (["a"], "3"),
        {},
    ),
    f"ValueError: {TOKENS}values must have the shape [batch] or [batch, 1]. Received: (1, 2).": (
        ("tokens", ([["a", "b"]], 3), {})
    ),
    "TypeError: features.hashed_token_counts: values must be text. Received: a tensor of float32.": (
        ("hashed_token_counts", ([1.5], 3), {})
    ),
    "TypeError: features.filled: default must be of the dtype float32. Received: 'x'.": (
        "filled",
        ([1.0], "x"),
        {},
    ),
    "TypeError: features.filled: default must be of the dtype int64. Received: 0.5.": (
        "filled",
        ([1], 0.5),
        {},
    ),
    "TypeError: features.log1p_signed: values must be numbers. Received: a tensor of string.": (
        ("log1p_signed", (["a"],), {})
    ),
}


def test_messages_name_the_function_and_the_argument():
    assert apply_all(list(MESSAGES.values())) == list(MESSAGES)


def test_filled_gives_every_example_a_value():
    found = apply_all(
        [
            ("filled", ([None, 2.5, None], -1), {}),
            ("filled", (["a", None, "c"], "none"), {}),
            ("filled", ([1.0, float("nan")], 0.0), {}),
            ("filled", (["", "b"], "none"), {}),
            ("filled", ([3, 4], 0), {}),
        ],
    )
    assert found == [[-1.0, 2.5, -1.0], [b"a", b"none", b"c"], [1.0, 0.0], [b"none", b"b"], [3, 4]]


def test_signed_logarithm():
    values = [-1000.0, -1.0, 0.0, 1e-6, 5.0]
    found = apply("log1p_signed", values)
    assert found == pytest.approx(
        [float(np.sign(value) * np.log1p(abs(value))) for value in values], rel=1e-6
    )
    assert apply("log1p_signed", [None, 0])[0] is None
