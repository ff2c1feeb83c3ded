"""What all records share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all records: unknown fields are refused, values never change.

    JSON has no NaN and no infinity; they are written as strings, so that a diverged loss survives the way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings", defer_build=True)
