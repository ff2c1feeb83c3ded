"""The kind of a feature's values, by the schema or by the values themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from perennial.schema.environments import is_alive

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Feature, Schema

Kind = Literal["int", "float", "bytes"]
_TEXT_DOMAINS = ("domain", "string_domain", "natural_language_domain", "url_domain", "mid_domain")


@dataclass(frozen=True)
class Column:
    """A feature and the kind of its values.

    Attributes:
        many: An example may have several; then a text that is a JSON list is a list of them.
        text: Bytes must be text in UTF-8.
        mixed: Its values were found to be of several kinds, so that anything is written as text.
        shape: Of several dimensions: a list may be nested so. Empty: lists are flat.
    """

    kind: Kind
    many: bool = False
    text: bool = False
    mixed: bool = False
    shape: tuple[int, ...] = ()


def columns_of(schema: Schema) -> dict[str, Column]:
    """Lists the features of a schema; structs, which tf.Example cannot hold, are left out."""
    from tensorflow_metadata.proto.v0 import schema_pb2

    kinds: dict[int, Kind] = {
        schema_pb2.INT: "int",
        schema_pb2.FLOAT: "float",
        schema_pb2.BYTES: "bytes",
    }
    return {
        feature.name: Column(
            kinds[feature.type],
            many=_holds_many(feature),
            text=any(feature.HasField(name) for name in _TEXT_DOMAINS),
            shape=nested_shape([dim.size for dim in feature.shape.dim]),
        )
        for feature in schema.feature
        if feature.type in kinds and is_alive(feature)
    }


def nested_shape(sizes: Sequence[int]) -> tuple[int, ...]:
    """Gives the shape of a feature of several dimensions; () for flat lists and single values."""
    return tuple(sizes) if len(sizes) > 1 else ()


def merge_kinds(kinds: Iterable[Kind]) -> Kind:
    """Gives the kind that holds all of them: numbers hold whole numbers, text holds anything."""
    distinct = set(kinds)
    if distinct == {"int"}:
        return "int"
    return "float" if distinct and distinct <= {"int", "float"} else "bytes"


class SeenKinds:
    """Kinds of the values seen in columns that no schema describes.

    Attributes:
        kinds: Column -> the kinds of its values.
        alone: Columns that held a value outside a list.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, set[Kind]] = {}
        self.alone: set[str] = set()

    def see(self, name: str, kind: Kind | None, alone: bool) -> None:
        """Notes a value; `alone`: it is not in a list."""
        if kind is not None:
            self.kinds.setdefault(name, set()).add(kind)
        if alone:
            self.alone.add(name)

    def columns(self) -> dict[str, Column]:
        """Gives columns that hold every value that was seen."""
        return {
            name: Column(merge_kinds(kinds), many=name not in self.alone, mixed=len(kinds) > 1)
            for name, kinds in self.kinds.items()
        }


def _holds_many(feature: Feature) -> bool:
    if feature.HasField("shape"):
        return bool(feature.shape.dim) and not all(dim.size == 1 for dim in feature.shape.dim)
    return bool(feature.HasField("value_count")) and feature.value_count.max != 1
