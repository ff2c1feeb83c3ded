"""The prediction log: its columns, and where its files lie.

One row stands for one instance of a request, as one arm answered it. Features and outputs are
columns of their own, `feature:<name>` and `output:<name>`: a number, a text, or a list of them, in
row-major order where they have several dimensions. A file holds the rows of one contract and one
day (UTC), in the root of the project: `predictions/date=2026-01-31/part-*.parquet` while the day
goes on, `day-*.parquet` once its files were merged.
"""

from __future__ import annotations

FOLDER = "predictions"
DATE = "date"
"""Name of the folders by day, `date=2026-01-31`, and of the column that readers make of it."""

REQUEST = "request_id"
INSTANCE = "instance"
KEY = "key"
TIME = "time"
ARM = "arm"
ASSIGNED = "assigned"
TEST = "test"
VERSION = "version"
CONTRACT = "contract"
CHANCE = "chance"
LATENCY = "latency_ms"
COLUMNS = (REQUEST, INSTANCE, KEY, TIME, ARM, ASSIGNED, TEST, VERSION, CONTRACT, CHANCE, LATENCY)
"""Columns of every row.

`request_id` text (the same for all arms that answered), `instance` int32 from 0, `key` text (the
value of `data.key`, hashed if the settings say so; null: the request had none), `time` timestamp in
microseconds (UTC), `arm` text (`champion`, `challenger`, `shadow`), `assigned` text (the arm that
the split gave the request: another one than `arm` where the champion answered for a challenger that
could not), `test` int64 (the A/B test that was running, by its number in the ledger; null: none),
`version` text, `contract` text (SHA-256 of the model's contract), `chance` float64 (the probability
with which the request was logged), `latency_ms` float64 (of the request).
"""

IDENTITY = (REQUEST, INSTANCE, ARM, TIME)
"""Columns that tell a row from every other."""

FEATURE = "feature:"
OUTPUT = "output:"

REPLACES = b"perennial.replaces"
"""Key in a file's metadata: names of the files whose rows it holds, as a JSON list."""
