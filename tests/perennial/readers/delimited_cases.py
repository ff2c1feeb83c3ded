"""One list of CSV files by delimiter: quotes, embedded delimiters, a byte order mark, compression."""

from __future__ import annotations

import csv
import gzip
import io

import zstandard

DELIMITERS = {
    ",": "commas",
    ";": "semicolons",
    "\t": "tabs",
    "|": "vertical bars",
    "\x01": "'\\x01'",
}
EMBEDDED = [
    "plain",
    "1,5",
    "a;b,c|d\te",
    'he said "no;" and "yes,"',
    "two\nlines; three, four",
    "\x01",
    ";",
    ",",
    "größe",
]
ROWS = [
    {"id": f"r{n}", "fare": n + 0.5, "note": EMBEDDED[n % len(EMBEDDED)], "label": n % 3}
    for n in range(45)
]
COLUMNS = list(ROWS[0])
FILES = (
    "a.csv",
    "quoted.csv",
    "mark.csv",
    "returns.csv",
    "packed.csv.gz",
    "packed.csv.zst",
    "a.tsv",
)
# Each delimiter with plain and quoted cells, and one of them in all the other files.
CASES = [
    (delimiter, name)
    for delimiter in DELIMITERS
    for name in (FILES if delimiter == ";" else FILES[:2])
]


def write(name: str, delimiter: str) -> bytes:
    """Gives the rows as a file of the list."""
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if name == "quoted.csv" else csv.QUOTE_MINIMAL
    end = "\r\n" if name == "returns.csv" else "\n"
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(COLUMNS)
    writer.writerows(list(row.values()) for row in ROWS)
    data = text.getvalue().encode()
    if name == "mark.csv":
        return b"\xef\xbb\xbf" + data
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.ZstdCompressor().compress(data) if name.endswith(".zst") else data
