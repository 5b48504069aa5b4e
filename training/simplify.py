"""ONNX network -> the same network with fewer steps: what its shapes already say is not worked out at every run.

The exporter leaves some hundred nodes that compute shapes, the additive attention mask and the token types of a text
that has one type only: a tenth of the time of a short text. Here

- a ``Reshape`` that keeps its first dimensions says so (0) instead of looking them up,
- the bias of all attention layers is one ``Where`` over the mask,
- the embedding of the token type is a row, not a lookup of zeros.

Scores stay equal to the last bit; :func:`simplified` tries that before it returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from stages.errors import ModelError

MASK = "attention_mask"
SHAPES = ((1, 3), (2, 17), (3, 64), (1, 200))  # batch x tokens, each tried with a padded row where there is one more


def simplified(model: ModelProto) -> ModelProto:
    """A copy of the network without needless steps.

    Args:
        model: inputs ``input_ids`` and ``attention_mask`` [batch, tokens], as :func:`training.quantise.export_onnx`
            and what quantises it leave it.

    Raises:
        ModelError: it would compute something else; the exporter has changed what it writes.
    """
    copied = ModelProto()
    copied.CopyFrom(model)
    graph = Graph(copied.graph)
    _keep_dimensions(graph)
    _bias_of_mask(graph)
    _row_of_type(graph)
    graph.drop_unused()
    _assert_equal(model, copied)
    return copied


class Graph:
    """A graph and who makes which of its tensors."""

    def __init__(self, proto: GraphProto) -> None:
        self.proto = proto
        self.makers = {name: node for node in proto.node for name in node.output}
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer}

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """The name of an initializer of this value, which is added if there is none of this name."""
        if name not in self.constants:
            self.proto.initializer.append(numpy_helper.from_array(value, name))
            self.constants[name] = value
        return name

    def of_type(self, kind: str) -> Iterator[NodeProto]:
        """All nodes of a type."""
        return (node for node in self.proto.node if node.op_type == kind)

    def replace(self, tensor: str, nodes: Sequence[NodeProto]) -> None:
        """Puts nodes, of which the last one makes ``tensor``, in the place of what makes it now."""
        old = self.makers[tensor]
        at = next(i for i, node in enumerate(self.proto.node) if node is old)
        self.proto.node.remove(old)
        for node in reversed(nodes):
            self.proto.node.insert(at, node)
        self.makers = {name: node for node in self.proto.node for name in node.output}

    def drop_unused(self) -> None:
        """Removes nodes and initializers that no output needs."""
        for node in needed(self.proto, [value.name for value in self.proto.output], keep=False):
            self.proto.node.remove(node)
        used = {name for node in self.proto.node for name in node.input}
        for tensor in [tensor for tensor in self.proto.initializer if tensor.name not in used]:
            self.proto.initializer.remove(tensor)


def needed(graph: GraphProto, tensors: Sequence[str], *, keep: bool = True) -> list[NodeProto]:
    """The nodes that tensors are made by, in order; with ``keep=False`` all the others."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    wanted, found = list(tensors), set[int]()
    while wanted:
        index = makers.get(wanted.pop())
        if index is not None and index not in found:
            found.add(index)
            wanted.extend(graph.node[index].input)
    return [node for index, node in enumerate(graph.node) if (index in found) is keep]


def _keep_dimensions(graph: Graph) -> None:
    """``Reshape(x, [x.shape[0], x.shape[1], ...])`` -> ``Reshape(x, [0, 0, ...])``."""
    for node in graph.of_type("Reshape"):
        shape = graph.makers.get(node.input[1])
        if shape is None or shape.op_type != "Concat":
            continue
        sizes = [_size(graph, place, part) for place, part in enumerate(shape.input)]
        if len(sizes) > 2 and None not in sizes and sizes[:2] == [0, 0]:
            name = "shape_" + "_".join(map(str, sizes))
            node.input[1] = graph.constant(name, np.array(sizes, np.int64))


def _size(graph: Graph, place: int, part: str) -> int | None:
    """One size of a shape: a constant, 0 for the same dimension of a hidden state, None for anything else."""
    if part in graph.constants:
        value = graph.constants[part]
        return int(value[0]) if value.shape == (1,) else None
    path: list[NodeProto] = []
    while part in graph.makers and len(path) < 3:
        node = graph.makers[part]
        path.append(node)
        part = node.input[0]
    if [node.op_type for node in path] != ["Unsqueeze", "Gather", "Shape"]:
        return None
    return 0 if graph.constants.get(path[1].input[1], np.array(-1)) == place else None


def _bias_of_mask(graph: Graph) -> None:
    """The bias that all attention layers add, [batch, 1, 1, tokens]: 0 for a token, the least float for padding."""
    sums = [graph.makers[node.input[0]] for node in graph.of_type("Softmax") if node.input[0] in graph.makers]
    biases = {node.input[1] for node in sums if node.op_type == "Add"}
    if len(biases) != 1:
        return
    (bias,) = biases
    dtype = np.float32
    graph.replace(
        bias,
        [
            helper.make_node("Cast", [MASK], ["mask_is_set"], to=TensorProto.BOOL),
            helper.make_node(
                "Unsqueeze", ["mask_is_set", graph.constant("mask_axes", np.array([1, 2]))], ["mask_of_keys"]
            ),
            helper.make_node(
                "Where",
                [
                    "mask_of_keys",
                    graph.constant("bias_of_token", np.array(0, dtype)),
                    graph.constant("bias_of_padding", np.array(np.finfo(dtype).min, dtype)),
                ],
                [bias],
            ),
        ],
    )


def _row_of_type(graph: Graph) -> None:
    """The embedding of the token type: always that of type 0."""
    for node in graph.of_type("Gather"):
        table = graph.constants.get(node.input[0])
        if table is not None and table.ndim == 2 and table.shape[0] <= 2 and table.shape[1] > 2:
            row = graph.constant(f"{node.input[0]}_row", table[:1][None])
            graph.replace(node.output[0], [helper.make_node("Identity", [row], [node.output[0]])])
            return


def _assert_equal(one: ModelProto, other: ModelProto) -> None:
    sessions = [
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]) for model in (one, other)
    ]
    rng = np.random.default_rng(0)
    for batch, tokens in SHAPES:
        ids = rng.integers(5, 1000, (batch, tokens))
        mask = np.ones_like(ids)
        mask[1:2, tokens // 2 :] = 0
        first, second = (session.run(None, {"input_ids": ids, MASK: mask}) for session in sessions)
        if not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)):
            raise ModelError("a network without needless steps computes something else than with them")
