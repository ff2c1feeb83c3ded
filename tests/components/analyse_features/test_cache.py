"""Entries of analyzers: found whole or not at all, kept as long as they are used."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from components.analyse_features.cache import UNUSED_SECONDS, AnalyzerCache, _file_name

KEYS = [b"mean\x00\xff", b"words"]


@pytest.fixture
def cache(tmp_path):
    """A cache that holds the entries of one span."""
    cache = AnalyzerCache(tmp_path / "cache", "analysis")
    cache.publish("span", KEYS, _written(tmp_path))
    return cache


def _written(folder):
    (folder / "written").mkdir(exist_ok=True)
    for key in KEYS:
        (folder / "written" / _file_name(key)).write_bytes(b"records of " + key)
    return folder / "written"


def _folder(cache):
    return cache.root / "span" / "analysis"


def test_entries_are_found(cache):
    found = cache.find("span", KEYS)
    assert {key: path.read_bytes() for key, path in found.items()} == {
        key: b"records of " + key for key in KEYS
    }


def test_of_another_span_or_analysis_nothing_is_found(cache):
    assert cache.find("another", KEYS) is None
    assert AnalyzerCache(cache.root, "another").find("span", KEYS) is None
    assert cache.find("span", [*KEYS, b"one more"]) is None


def _truncate(folder):
    file = folder / _file_name(KEYS[0])
    file.write_bytes(file.read_bytes()[:-1])


def _lose(folder):
    (folder / _file_name(KEYS[0])).unlink()


def _forget(folder):
    entries = json.loads((folder / "entries.json").read_text())["entries"]
    (folder / "entries.json").write_text(json.dumps({"entries": entries[1:]}))


def _break_index(folder):
    (folder / "entries.json").write_text('{"entries": [')


def _no_index(folder):
    (folder / "entries.json").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("damage", [_truncate, _lose, _forget, _break_index, _no_index])
def test_damaged_entries_are_not_found_and_can_be_made_again(cache, tmp_path, damage):
    damage(_folder(cache))
    assert cache.find("span", KEYS) is None
    cache.publish("span", KEYS, _written(tmp_path))
    assert set(cache.find("span", KEYS)) == set(KEYS)


def _age(path, seconds):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_what_no_run_used_for_a_month_is_removed(cache, tmp_path):
    AnalyzerCache(cache.root, "earlier").publish("span", KEYS, _written(tmp_path))
    cache.publish("recent", KEYS, _written(tmp_path))
    for name in ("analysis", "earlier"):
        _age(cache.root / "span" / name, UNUSED_SECONDS + 60)
    cache.prune({"span"})
    assert cache.find("span", KEYS) and cache.find("recent", KEYS)
    assert not (cache.root / "span" / "earlier").exists()
    _age(cache.root / "span" / "analysis", UNUSED_SECONDS + 60)
    cache.prune({"recent"})
    assert not cache.find("span", KEYS) and cache.find("recent", KEYS)


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a file system that takes no folders")
def test_nothing_is_kept_where_nothing_can_be_written(tmp_path):
    cache = AnalyzerCache(Path("/sys/perennial"), "analysis")
    cache.publish("span", KEYS, _written(tmp_path))
    cache.prune({"span"})
    assert cache.find("span", KEYS) is None
