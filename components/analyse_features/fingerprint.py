"""The fingerprint of an analysis, so that accumulators of another one are never taken for its."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial import __version__
from perennial.data.preprocessing import Preprocessing
from perennial.storage.digests import digest_file, digest_value

if TYPE_CHECKING:
    import tensorflow as tf

# Raise it when the form of the entries changes.
_FORMAT = 1
# Attributes that differ between two traces of the same function.
_TRACE_ONLY = ("shared_name", "container", "config_proto", "config", "_gradient_op_type")


def fingerprint(
    preprocessing: Preprocessing, specs: Mapping[str, tf.TypeSpec], keys: Sequence[bytes]
) -> str:
    """Computes the digest of all that decides what the analyzers accumulate over the same examples.

    TensorFlow Transform's own keys are not enough: they hash the attributes of the operations
    before an analyzer but not which operations they are, so that the mean of `tf.sin(x)` and of
    `tf.cos(x)` have the same key (`graph_tools.describe_path_as_analyzer_cache_hash`, 1.21).

    Args:
        preprocessing: The function.
        specs: Name -> type of each raw feature, with the batch as first dimension.
        keys: TensorFlow Transform's keys of the accumulators.
    """
    import tensorflow_transform as tft
    from tensorflow_transform import impl_helper

    # The order of the specs is that of a set in each process; operations would be numbered by it.
    ordered = dict(sorted(specs.items()))
    graph, _, _ = impl_helper.trace_preprocessing_function(
        preprocessing, ordered, use_tf_compat_v1=False
    )
    types = [f"{name} {spec}" for name, spec in sorted(specs.items())]
    versions = [_FORMAT, __version__, tft.__version__]
    return digest_value(
        [*versions, types, [key.hex() for key in keys], _describe(graph), list(_assets(graph))]
    )


def _describe(graph: tf.Graph) -> str:
    """Describes the graph as text that is the same in every process."""
    from google.protobuf import text_format

    definition = graph.as_graph_def()
    for node in [
        *definition.node,
        *(node for function in definition.library.function for node in function.node_def),
    ]:
        node.ClearField("experimental_debug_info")
        for name in _TRACE_ONLY:
            node.attr.pop(name, None)
    for function in definition.library.function:
        function.ClearField("attr")
        function.ClearField("arg_attr")
    functions = {function.signature.name: function for function in definition.library.function}
    definition.ClearField("library")
    return _name_functions(text_format.MessageToString(definition), functions)


def _name_functions(text: str, functions: Mapping[str, Any]) -> str:
    """Appends the functions that the text names, in the order in which it names them.

    Their names hold counters.
    """
    from google.protobuf import text_format

    if not functions:
        return text
    names = re.compile(
        "|".join(re.escape(f'"{name}"') for name in sorted(functions, key=len, reverse=True))
    )
    order: dict[str, str] = {}
    parts, waiting = [], [text]
    while waiting:
        part = waiting.pop(0)
        for quoted in names.findall(part):
            if quoted not in order:
                order[quoted] = f'"function {len(order)}"'
                waiting.append(text_format.MessageToString(functions[quoted[1:-1]]))
        parts.append(names.sub(lambda match: order[match[0]], part))
    return "\n".join(parts)


def _assets(graph: tf.Graph) -> Iterator[str]:
    """Computes the digests of the files that the graph reads, such as those of lookup tables."""
    import tensorflow as tf

    for tensor in graph.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS):
        value = tf.get_static_value(tensor)
        path = Path(tf.compat.as_str_any(value)) if value is not None else None
        if path is not None and path.is_file():
            yield digest_file(path)
