"""Notices: the things that people are told of by messages."""

from __future__ import annotations

from typing import Literal

NoticeKind = Literal[
    "failed", "data_rejected", "quarantined", "kept_champion", "rolled_back", "overdue"
]
