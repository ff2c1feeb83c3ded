"""Finds out which features a SavedModel makes nothing of, from its graph.

A schema says what clients send; whether `preprocessing_fn` and the model make anything of it is in
the graph alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorflow.core.framework.function_pb2 import FunctionDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef

_GRAPH_FILE = "saved_model.pb"
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
# What they give follows from how many values there are, and of what shape, not from the values.
_OF_SHAPES = frozenset({"OnesLike", "Rank", "Shape", "ShapeN", "Size", "ZerosLike"})
# It takes serialised tf.Examples apart; where its inputs hold the features' names, by the kind of
# feature that an output belongs to.
_PARSER = "ParseExampleV2"
_NAMES_OF_PARSED = {"sparse": 2, "dense": 3, "ragged": 4}


def unread_features(
    saved_model: Path, signature: str, arguments: Mapping[str, str], outputs: Collection[str]
) -> frozenset[str]:
    """Gives the features of a signature whose values none of these outputs depends on.

    An operation depends on all its inputs, a call on what the called function makes of them. What
    is made into tf.Examples and parsed again, as a module of `run_fn` does, is followed by its
    name. An assertion on an input is no dependence.

    Args:
        saved_model: The SavedModel, whose files were verified.
        signature: Name of one of its functions.
        arguments: Feature -> name of its argument.
        outputs: Names of outputs; those that it does not have are left out.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    stored = SavedModel.FromString((saved_model / _GRAPH_FILE).read_bytes())
    graph = stored.meta_graphs[0]
    function = graph.signature_def[signature]
    functions = _Functions({item.signature.name: item for item in graph.graph_def.library.function})
    nodes = _Nodes({node.name: node for node in graph.graph_def.node}, functions)
    sources = nodes.sources_of(
        function.outputs[name].name for name in outputs if name in function.outputs
    )
    return frozenset(
        feature
        for feature, argument in arguments.items()
        if _node_of(function.inputs[argument].name) not in sources.nodes
        and feature not in sources.parsed
    )


@dataclass(frozen=True)
class _Sources:
    """Nodes and arguments that tensors depend on, and features of parsed examples, by name."""

    nodes: set[str] = field(default_factory=set)
    parsed: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Dependence:
    """Arguments, by number, and parsed features that an output of a function depends on."""

    arguments: frozenset[int]
    parsed: frozenset[str]


class _Functions:
    """The functions of a graph; each is followed once."""

    def __init__(self, functions: Mapping[str, FunctionDef]) -> None:
        self._functions = functions
        self._known: dict[str, list[_Dependence]] = {}

    def dependence(self, name: str, output: int) -> _Dependence:
        """Gives what one output of a function depends on."""
        if name not in self._known:
            self._known[name] = list(self._trace(self._functions[name]))
        return self._known[name][output]

    def _trace(self, function: FunctionDef) -> Iterator[_Dependence]:
        nodes = _Nodes({node.name: node for node in function.node_def}, self)
        numbers = {arg.name: number for number, arg in enumerate(function.signature.input_arg)}
        for output in function.signature.output_arg:
            sources = nodes.sources_of([function.ret[output.name]])
            arguments = frozenset(numbers[name] for name in sources.nodes if name in numbers)
            yield _Dependence(arguments, frozenset(sources.parsed))


@dataclass(frozen=True)
class _Nodes:
    """The nodes of a graph or of a function, by name."""

    nodes: Mapping[str, NodeDef]
    functions: _Functions

    def sources_of(self, tensors: Iterable[str]) -> _Sources:
        """Gives what tensors depend on."""
        sources, waiting, seen = _Sources(), list(tensors), set[str]()
        while waiting:
            tensor = waiting.pop()
            if tensor not in seen:
                seen.add(tensor)
                sources.nodes.add(_node_of(tensor))
                waiting += self._inputs_of(tensor, sources.parsed)
        return sources

    def _inputs_of(self, tensor: str, parsed: set[str]) -> list[str]:
        """Gives the tensors that one depends on; adds the parsed features that it depends on."""
        node = self.nodes.get(_node_of(tensor))
        if node is None or node.op in _OF_SHAPES:  # no node: an argument of the function
            return []
        inputs = [name for name in node.input if not name.startswith("^")]
        if node.op in _CALLS:
            called = self.functions.dependence(node.attr["f"].func.name, _number_of(tensor))
            parsed |= called.parsed
            return [inputs[number] for number in called.arguments]
        if node.op == _PARSER:
            feature = self._parsed_feature(tensor, inputs)
            if feature is not None:
                parsed.add(feature)
                return []
        return inputs

    def _parsed_feature(self, tensor: str, inputs: list[str]) -> str | None:
        """Names the feature of a parser's output, such as `node:dense_values:0`; None: unknown."""
        import tensorflow as tf

        kind = tensor.partition(":")[2].partition("_")[0]
        names = self.nodes.get(_node_of(inputs[_NAMES_OF_PARSED.get(kind, 0)]))
        if kind not in _NAMES_OF_PARSED or names is None or names.op != "Const":
            return None
        feature: bytes = tf.make_ndarray(names.attr["value"].tensor)[_number_of(tensor)]
        return feature.decode()


def _node_of(tensor: str) -> str:
    """Gives the node of a tensor: `node`, `node:0`, or `node:output:0` within a function."""
    return tensor.partition(":")[0]


def _number_of(tensor: str) -> int:
    _, colon, number = tensor.rpartition(":")
    return int(number) if colon else 0
