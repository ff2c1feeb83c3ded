"""Bases of all records."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from perennial.storage.atomic import publish_text


class Record(BaseModel):
    """Base of all records: unknown fields are refused, values never change.

    JSON has no NaN and no infinity; they are written as strings, so that a diverged loss survives
    the way.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, ser_json_inf_nan="strings", defer_build=True
    )


class FileRecord(Record):
    """Base of the records that a step leaves in its folder, each in a file of one name."""

    FILE: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the record that a step left in a folder.

        Raises:
            FileNotFoundError: The step left none.
            ValueError: The file is damaged, or of another version of the product.
        """
        file = folder / cls.FILE
        try:
            return cls.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the whole file"
            message = (
                f"{file} must hold a record of the type {cls.__name__}. Received: {place}: "
                f"{first['msg']}."
            )
            raise ValueError(f"{message} Run again to rebuild it.") from error

    def write(self, folder: Path) -> None:
        """Writes the record into a folder, whole or not at all; what lay there is replaced."""
        publish_text(self.model_dump_json(indent=2), folder / self.FILE)
