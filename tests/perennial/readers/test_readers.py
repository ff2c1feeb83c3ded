"""Every format that the settings know has its reader, and every ending leads to one."""

from __future__ import annotations

from typing import get_args

import pytest

from perennial.errors import ProjectError
from perennial.readers.read import FILE_ENDINGS, READERS, format_of
from perennial.storage.compression import COMPRESSED_SUFFIXES
from schemas.project import Format


def test_every_format_of_the_settings_has_a_reader():
    assert set(READERS) == set(get_args(Format))


@pytest.mark.parametrize("compressed", ["", *COMPRESSED_SUFFIXES])
def test_the_ending_tells_the_format(compressed):
    for name, reader in READERS.items():
        for suffix in reader.suffixes:
            assert format_of(f"s3://bucket/A{suffix.upper()}{compressed}", None) == name
    assert len(set(FILE_ENDINGS)) == len(FILE_ENDINGS)


def test_an_unknown_ending_is_refused_with_those_that_are_known():
    with pytest.raises(ProjectError) as refused:
        format_of("data/a.xlsx", None)
    assert all(name in str(refused.value) for name in (*READERS, *FILE_ENDINGS))
    assert format_of("data/a.xlsx", "csv") == "csv"
