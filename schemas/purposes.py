"""What a token of the model server opens."""

from __future__ import annotations

from typing import Literal

Purpose = Literal["predicting", "administration"]
