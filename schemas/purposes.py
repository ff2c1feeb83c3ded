"""Purposes of tokens: what each opens of the model server."""

from __future__ import annotations

from typing import Literal

Purpose = Literal["predicting", "administration"]
