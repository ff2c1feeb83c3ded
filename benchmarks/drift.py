"""Drift thresholds, measured: false alarms where nothing changed, and detection of planted shifts.

Days land in a row, each with fifteen features of many shapes, and each is compared as the product
does: with the day before and with the window of the days before it. Beside it stands TensorFlow
Data Validation on the same days, with the fixed thresholds of its guide.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from _figures import Figure, conclude
from numpy.random import Generator

if TYPE_CHECKING:
    import pyarrow as pa

SIZES = (100, 300, 1_000, 3_000, 10_000)
DAYS = 400  # spans of each size in which nothing changed
SHIFTED_DAYS = 240  # spans with planted shifts
PEER_DAYS = 40
WINDOW = 6  # days before that a day is compared with
MOST_FALSE_ALARMS = 0.05
LEAST_DETECTED = 0.95
PEER_THRESHOLDS = (0.01, 0.1)  # TFDV's guide uses 0.01 for L-infinity, its examples up to 0.1

NUMBERS = ("amount", "price", "tip", "duration", "discount", "rating", "trips", "hour", "pixels")
CATEGORIES = ("paid", "zone", "product", "customer", "note", "tags")
WHOLE = ("rating", "trips", "hour")
# Planted at 500 rows: the mean moves by half a standard deviation.
MOVED_MEANS = ("amount", "trips", "tip")
# Planted at 1,000 rows: one category's share goes from 10% to 20%.
MOVED_SHARES = ("paid", "zone", "product", "method")
ZONES = np.array([0.22, 0.18, 0.15, 0.1, 0.1, 0.09, 0.07, 0.05, 0.03, 0.01])
METHODS = np.array([0.5, 0.4, 0.1])


def main() -> int:
    """Measures everything and prints the table."""
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=2, mp_context=context, initializer=be_quiet) as pool:
        detected = [
            pool.submit(count_detected, days, seed) for days in (WINDOW, 1) for seed in (1, 2)
        ]
        alarms = {size: pool.submit(count_alarms, size) for size in reversed(SIZES)}
        peers = {size: pool.submit(count_peer_alarms, size) for size in SIZES}
        worst = print_alarms(
            {s: alarms[s].result() for s in SIZES}, {s: peers[s].result() for s in SIZES}
        )
        least = print_detected([future.result() for future in detected])
    figures = [
        Figure("false alarms, worst size", 100 * worst, at_most=100 * MOST_FALSE_ALARMS, unit="%"),
        Figure(
            "shifts detected, worst feature", 100 * least, at_least=100 * LEAST_DETECTED, unit="%"
        ),
    ]
    return conclude("drift", figures, began)


def be_quiet() -> None:
    """TensorFlow writes notes to the terminal when it is imported.

    What goes wrong reaches the table by itself.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def print_alarms(alarms: dict[int, Counter[str]], peers: dict[int, list[float]]) -> float:
    """Prints the false alarms per span; gives the greatest share."""
    shown = " | ".join(f"TFDV, {limit:g} for both" for limit in PEER_THRESHOLDS)
    print(
        f"spans of the same distribution with any alarm; {DAYS} spans of each size ({PEER_DAYS} by "
        "TFDV)\n"
    )
    print(
        f"| rows | default thresholds | {shown} | what alarmed |\n| ---: | ---: | ---: | ---: | "
        "--- |"
    )
    for size, counted in alarms.items():
        theirs = " | ".join(f"{share:.0%}" for share in peers[size])
        what = ", ".join(f"{name} {count}" for name, count in counted.most_common() if name)
        print(f"| {size:,} | {counted[''] / DAYS:.1%} | {theirs} | {what} |")
    return max(counted[""] / DAYS for counted in alarms.values())


def print_detected(counted: list[Counter[tuple[int, int, str]]]) -> float:
    """Prints the shares of planted shifts that were detected; gives the least."""
    total = sum(counted, Counter[tuple[int, int, str]]())
    print(
        f"\nplanted shifts that were detected, of {SHIFTED_DAYS} each, beside all other features\n"
    )
    print("| rows | shift | feature | days before | detected |\n| ---: | --- | --- | ---: | ---: |")
    shares = []
    for rows, names, shift in (
        (500, MOVED_MEANS, "mean by 0.5 sd"),
        (1_000, MOVED_SHARES, "10% to 20%"),
    ):
        for days in (WINDOW, 1):
            for name in names:
                shares.append(total[rows, days, name] / SHIFTED_DAYS)
                print(f"| {rows:,} | {shift} | {name} | {days} | {shares[-1]:.1%} |")
    return min(shares)


def count_alarms(rows: int) -> Counter[str]:
    """Alarms of each feature, and of any ("") per span, over days in which nothing changes."""
    rng, schema = np.random.default_rng(rows), make_schema()
    before: deque[Any] = deque(maxlen=WINDOW)
    alarms: Counter[str] = Counter()
    for day in range(DAYS + WINDOW):
        span = measure(make_day(rng, rows), schema)
        if day >= WINDOW:
            alarmed = {
                check.subject
                for check in check(schema, span, list(before))
                if check.verdict == "failed"
            }
            alarms.update(alarmed | ({""} if alarmed else set()))
        before.append(span)
    return alarms


def count_detected(days: int, seed: int) -> Counter[tuple[int, int, str]]:
    """Detected shifts by (rows, days before, feature).

    Half of the repetitions, after so many days.
    """
    rng, schema = np.random.default_rng([days, seed]), make_schema()
    detected: Counter[tuple[int, int, str]] = Counter()
    for rows, names in ((500, MOVED_MEANS), (1_000, MOVED_SHARES)):
        before: deque[Any] = deque(
            (measure(make_day(rng, rows), schema) for _ in range(days)), maxlen=days
        )
        for _ in range(SHIFTED_DAYS // 2):
            shifted = measure(make_day(rng, rows, frozenset(names)), schema)
            alarmed = {
                check.subject
                for check in check(schema, shifted, list(before))
                if check.verdict == "failed"
            }
            detected.update((rows, days, name) for name in names if name in alarmed)
            before.append(measure(make_day(rng, rows), schema))
    return detected


def count_peer_alarms(rows: int) -> list[float]:
    """Share of the days with an anomaly of TFDV's drift comparators, for each fixed threshold."""
    from perennial.tfx_compat import import_tfdv

    tfdv = import_tfdv()
    from tensorflow_data_validation.statistics import stats_impl

    rng = np.random.default_rng(rows)
    alarms = [0] * len(PEER_THRESHOLDS)
    before = None
    for _ in range(PEER_DAYS + 1):
        options = tfdv.StatsOptions(schema=make_schema())
        now = stats_impl.generate_statistics_in_memory(make_day(rng, rows), options)
        for number, limit in enumerate(PEER_THRESHOLDS if before else ()):
            anomalies = tfdv.validate_statistics(
                now, make_schema(limit), previous_statistics=before
            )
            alarms[number] += any(
                "COMPARATOR" in str(reason)
                for info in anomalies.anomaly_info.values()
                for reason in info.reason
            )
        before = now
    return [count / PEER_DAYS for count in alarms]


def make_schema(limit: float | None = None) -> Any:
    """The schema of a day.

    With a limit, every feature but the key has it as its fixed threshold of drift.
    """
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = schema_pb2.Schema()
    names = ("key", "label", "method", *NUMBERS, *CATEGORIES)
    for name in names:
        whole = name in WHOLE or name == "label"
        kind = (
            schema_pb2.INT if whole else schema_pb2.FLOAT if name in NUMBERS else schema_pb2.BYTES
        )
        feature = schema.feature.add(name=name, type=kind)
        if name == "label":
            feature.int_domain.is_categorical = True
        if limit is not None and name != "key":
            measured = "jensen_shannon_divergence" if name in NUMBERS else "infinity_norm"
            getattr(feature.drift_comparator, measured).threshold = limit
    return schema


def measure(day: pa.RecordBatch, schema: Any) -> Any:
    """Values -> distributions, by the code that `compute_statistics` runs."""
    from perennial.tfx_compat import import_tfdv

    import_tfdv()
    from perennial.data.value_counts import measure_distributions

    counter = measure_distributions(schema, ["label"])
    accumulator = counter.create_accumulator()
    for start in range(0, day.num_rows, 1000):
        accumulator = counter.add_input(accumulator, day.slice(start, 1000))
    return counter.extract_output(accumulator)


def check(schema: Any, span: Any, before: list[Any]) -> Any:
    """The checks of drift, as `validate_data` makes them by default."""
    from components.validate_data.drift import Rules, check_drift, make_baselines
    from schemas.project import ChecksSettings

    rules = Rules("key", "label", ChecksSettings().false_alarms, "warn", "warn")
    return check_drift(list(schema.feature), span, make_baselines(before), rules)


def make_day(rng: Generator, rows: int, moved: frozenset[str] = frozenset()) -> pa.RecordBatch:
    """One day's examples. `moved` names the features whose distribution is another one."""
    import pyarrow as pa

    columns = {
        name: values.astype(np.float32) for name, values in make_numbers(rng, rows, moved).items()
    }
    columns |= {name: columns[name].astype(np.int64) for name in WHOLE}
    columns |= make_categories(rng, rows, moved)
    columns["label"] = rng.choice(4, rows, p=[0.6, 0.25, 0.1, 0.05]).astype(np.int64)
    arrays = {name: one_each(values) for name, values in columns.items()}
    arrays["discount"] = some_missing(rng, columns["discount"], 0.02)
    arrays["tags"] = several_each(rng.choice(12, 4 * rows).astype(str), rng.integers(0, 5, rows))
    # The pixels of one image are alike: sixteen values are far from sixteen observations.
    pixels = (rng.normal(size=(rows, 1)) + 0.5 * rng.normal(size=(rows, 16))).astype(np.float32)
    arrays["pixels"] = several_each(pixels.ravel(), np.full(rows, 16))
    return pa.RecordBatch.from_pydict(arrays)


def make_numbers(rng: Generator, rows: int, moved: frozenset[str]) -> dict[str, Any]:
    """Draws normal, lognormal, tied, zero-inflated, heavy-tailed, uniform and whole numbers."""
    # A tip is left or not, then in steps of a half: moving its mean by half a standard deviation
    # leaves fewer without.
    left = 0.4 if "tip" not in moved else 0.79
    return {
        "amount": rng.normal(50, 12, rows) + (6.0 if "amount" in moved else 0.0),
        "price": rng.lognormal(2, 1, rows),
        "tip": np.where(rng.random(rows) < left, np.ceil(rng.exponential(3, rows) * 2) / 2, 0.0),
        "duration": rng.pareto(1.5, rows),
        "discount": rng.random(rows),
        "rating": rng.choice([1, 2, 3, 4, 5], rows, p=[0.02, 0.03, 0.1, 0.35, 0.5]),
        "trips": rng.poisson(3 + (0.5 * 3**0.5 if "trips" in moved else 0), rows),
        "hour": np.floor(24 * rng.beta(4, 2, rows)),
    }


def make_categories(rng: Generator, rows: int, moved: frozenset[str]) -> dict[str, Any]:
    """Categories with 2, 3, 10 and 1,000 values, identifiers and free text."""
    zipf = 1 / np.arange(1, 1001)
    product = np.append(0.1, 0.9 * zipf[1:] / zipf[1:].sum())
    words = rng.choice([b"late", b"again", b"fine", b"no", b"paid", b"call"], (rows, 4))
    return {
        "key": np.char.add("row-", np.arange(rows).astype(str)).astype(bytes),
        "paid": pick(rng, np.array([0.9, 0.1]), rows, 1 if "paid" in moved else None),
        "method": pick(rng, METHODS, rows, 2 if "method" in moved else None),
        "zone": pick(rng, ZONES, rows, 3 if "zone" in moved else None),
        "product": pick(rng, product, rows, 0 if "product" in moved else None),
        "customer": rng.integers(0, 10**9, rows).astype(str).astype(bytes),
        "note": np.array([b" ".join(row) for row in words]),
    }


def pick(rng: Generator, shares: Any, rows: int, doubled: int | None) -> Any:
    """Categories with these shares.

    One of 10% has 20% instead, the others their parts of the rest.
    """
    if doubled is not None:
        rest = (1 - 0.2) / (1 - shares[doubled])
        shares = np.where(np.arange(len(shares)) == doubled, 0.2, shares * rest)
    return rng.choice(len(shares), rows, p=shares / shares.sum()).astype(str).astype(bytes)


def one_each(values: Any) -> pa.ListArray:
    """One value in every example."""
    return several_each(values, np.ones(len(values), np.int64))


def some_missing(rng: Generator, values: Any, share: float) -> pa.ListArray:
    """One value in every example but some, which lack the feature."""
    import pyarrow as pa

    there = rng.random(len(values)) >= share
    pairs = zip(values.tolist(), there, strict=True)
    return pa.array([[value] if here else None for value, here in pairs], pa.list_(pa.float32()))


def several_each(values: Any, lengths: Any) -> pa.ListArray:
    """So many of the values in each example."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = values if values.dtype.kind in "if" else values.astype(bytes)
    kind = pa.binary() if flat.dtype.kind == "S" else None
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(flat.tolist() if kind else flat, kind)
    )


if __name__ == "__main__":
    sys.exit(main())
