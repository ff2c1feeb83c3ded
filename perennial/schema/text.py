"""A schema as text: writes a new one, or writes a change into one that a person has commented."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, MutableSequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import ProjectError

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0.schema_pb2 import Schema

HEADER = """\
# What an example looks like: types, presence, shapes and values of its features (TensorFlow Data Validation).
#
# Environments: labelled data that lands is checked in TRAINING; SERVING is what clients send. A feature is in both,
# unless it says `not_in_environment: "SERVING"`: the label, the key, and what an example may lack, as a client sends
# every feature with a fixed shape.
#
# This file changes by review: `perennial schema diff` proposes, `perennial schema accept` applies and records it.
"""
_FIRST = ("name", "type", "lifecycle_stage", "presence", "shape", "value_count", "domain")
_NAMED = ("feature", "string_domain")
# A map, whose blocks are written anew, as one, when one of them changes.
_MAP = "tensor_representation_group"
_LAST = ("in_environment", "not_in_environment")


def schema_text(schema: Schema) -> str:
    """Writes a schema that `infer` made as text."""
    parts = [HEADER, *(f'default_environment: "{name}"\n' for name in schema.default_environment)]
    rest = [(field, value) for field, value in _top_level(schema) if field != "default_environment"]
    return "".join(parts) + "\n" + "\n".join(_block_text(field, value) for field, value in rest)


def patch_text(text: str, after: Schema) -> tuple[str, bool]:
    """Writes a change into the text of a schema.

    Blocks that do not change keep their bytes and comments, those that change keep the comments
    above them, and new ones come behind the last of their kind.

    Args:
        text: The schema as it is.
        after: The schema as it shall be.

    Returns:
        The new text, and whether the comments were kept: a text in which several blocks share a
            line is written anew.
    """
    try:
        patched = _patched_blocks(text, after)
        if _sorted_bytes(parse(patched)) == _sorted_bytes(after):
            return patched, True
    except ValueError:
        pass
    return schema_text(after), False


def unified_diff(before: str, after: str, name: str, other: str = "proposed") -> str:
    """Gives the textual difference, as `diff -u` shows it; empty when there is none."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, f"{name} ({other})", lineterm="", n=3
    )
    return "\n".join(lines)


def read_schema_text(path: Path) -> str:
    """Reads the text of a schema with its line ends, so that it has the digest of the file.

    Raises:
        ProjectError: The file is missing or is not text in UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        remedy = f"`perennial schema infer {path.parent}` writes one from what has landed."
        raise ProjectError(str(path), "must exist", "no such file", remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(
            str(path), "must be a text file in UTF-8", error, "Replace it."
        ) from None


def parse(text: str) -> Schema:
    """Parses text that this module wrote or cut.

    Raises:
        ValueError: It is not a schema.
    """
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    try:
        return text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ValueError(str(error)) from error


def to_schema(text: str, where: str) -> Schema:
    """Parses the text of a project's schema.

    Raises:
        ProjectError: It does not parse; the message names the line.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise ProjectError(
            where, "must be a schema in protobuf text format", error, "Correct the line."
        ) from None


def compact(message: Any) -> str:
    """Writes a message, number or text of a schema on one line."""
    from google.protobuf import text_format
    from google.protobuf.message import Message

    if not isinstance(message, Message):
        return str(message)
    return str(text_format.MessageToString(message, as_one_line=True, as_utf8=True)).strip()


def _patched_blocks(text: str, after: Schema) -> str:
    """Exchanges changed blocks in the text, leaves out removed ones and puts in new ones.

    Raises:
        ValueError: Several blocks share a line.
    """
    remaining = {(field, item.name): item for field, item in _top_level(after) if field in _NAMED}
    new_map = _changed_map(parse(text), after)
    pieces: list[tuple[str, str]] = []
    for gap, block in split_blocks(text):
        field, element = _only_element(block)
        if field == _MAP and new_map is not None:
            continue
        key = (field, element.name) if field in _NAMED else ("", "")
        if field not in _NAMED or remaining.get(key) == element:
            pieces.append((field, gap + block))
        elif key in remaining:
            pieces.append((field, gap + _block_text(field, remaining[key])))
        remaining.pop(key, None)
    for (field, _), element in remaining.items():
        fields = [piece[0] for piece in pieces]
        after_kind = field if field in fields else "feature"
        place = (
            len(fields) - fields[::-1].index(after_kind) if after_kind in fields else len(fields)
        )
        pieces.insert(place, (field, "\n" + _block_text(field, element)))
    if new_map:
        pieces.append((_MAP, "\n" + _block_text(_MAP, new_map)))
    return "".join(piece[1] for piece in pieces)


def _changed_map(before: Schema, after: Schema) -> Any:
    """Gives the tensor representations of a schema if they changed, None if they did not."""
    groups = [_serialised(getattr(schema, _MAP)) for schema in (before, after)]
    return None if groups[0] == groups[1] else getattr(after, _MAP)


def split_blocks(text: str) -> list[tuple[str, str]]:
    """Cuts a text into top-level blocks, each with the comments and blank lines above it.

    What follows the last block is the `gap` of an empty one.
    """
    blocks, gap, block, depth = [], "", "", 0
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):  # not splitlines(): a value may hold U+2028
        code = _without_comment(line)
        if not block and not code.strip():
            gap += line
            continue
        block += line if line.endswith("\n") else line + "\n"
        depth += _balance(code)
        if depth == 0:
            blocks.append((gap, block))
            gap = block = ""
    return [*blocks, (gap, block)] if gap or block else blocks


def _without_comment(line: str) -> str:
    """Removes the comment of a line and empties its texts."""
    kept, quote, escaped = "", "", False
    for character in line:
        if quote:
            escaped, closed = character == "\\" and not escaped, character == quote and not escaped
            quote = "" if closed else quote
        elif character == "#":
            break
        else:
            quote = character if character in "\"'" else ""
            kept += character
    return kept


def _balance(code: str) -> int:
    return sum((c in "{<[") - (c in "}>]") for c in code)


def _only_element(block: str) -> tuple[str, Any]:
    """Gives field and value of the one element of a block; an empty field for an empty block.

    Raises:
        ValueError: It holds several.
    """
    elements = _top_level(parse(block))
    if len(elements) > 1:
        raise ValueError(f"several elements in {block!r}")
    return elements[0] if elements else ("", None)


def _top_level(schema: Schema) -> list[tuple[str, Any]]:
    """Lists the fields of a schema and their values, features before the lists of values."""
    return [(field.name, item) for field, value in schema.ListFields() for item in _items(value)]


def _items(value: Any) -> list[Any]:
    """Gives the values of a repeated field, or the one of another."""
    return list(value) if isinstance(value, MutableSequence) else [value]


def _block_text(field: str, element: Any) -> str:
    """Writes a top-level element; a message with a line for each of its fields."""
    from google.protobuf.message import Message
    from tensorflow_metadata.proto.v0 import schema_pb2

    if not isinstance(element, Message):
        return f"{_alone(schema_pb2.Schema(), field, element)}\n"
    lines = [
        _alone(type(element)(), name, item)
        for name, value in _fields_in_order(element)
        for item in _items(value)
    ]
    return "\n".join([f"{field} {{", *(f"  {line}" for line in lines), "}"]) + "\n"


def _fields_in_order(element: Any) -> list[tuple[str, Any]]:
    fields = {field.name: value for field, value in element.ListFields()}
    names = [name for name in _FIRST if name in fields]
    names += [name for name in fields if name not in _FIRST + _LAST]
    return [(name, fields[name]) for name in [*names, *(name for name in _LAST if name in fields)]]


def _alone(empty: Any, field: str, item: Any) -> str:
    """Writes one value of one field on a line, as protobuf does."""
    target = getattr(empty, field)
    if isinstance(target, MutableSequence):
        target.append(item)
    elif hasattr(target, "MergeFrom"):  # a message or a map
        if hasattr(target, "SetInParent"):
            target.SetInParent()
        target.MergeFrom(item)
    else:
        setattr(empty, field, item)
    text = compact(empty)
    return text[:-3] + "{}" if text.endswith("{ }") else text


def _sorted_bytes(schema: Schema) -> list[tuple[str, Any]]:
    return sorted((field, _serialised(value)) for field, value in _top_level(schema))


def _serialised(value: Any) -> bytes:
    """Gives a message, map, number or text as bytes, the same for equal ones."""
    if isinstance(value, Mapping):
        entries = sorted((name, _serialised(entry)) for name, entry in value.items())
        return repr(entries).encode()
    if hasattr(value, "DESCRIPTOR"):
        return bytes(value.SerializeToString(deterministic=True))
    return str(value).encode()
