"""An early exit put into an ONNX network: *network, head, bar* -> one network that runs its later layers if need be.

The head reads the states behind an early layer. Where it is sure that the rest is not needed, its scores are the
network's; else the rest runs, in the branch of an ``If``, and says what it always said. So the file stays one network
with the same inputs and outputs, and whoever runs it need not know. In a batch the rest runs for all if one needs it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from stages.errors import ModelError
from training.exit_head import MASKED, PEAKS, QUERIES, VALUES, ExitHead
from training.simplify import MASK, needed

NORMS_A_LAYER = 2  # of an encoder that normalises behind attention and behind its feed-forward part, as BERT does


def state_of(model: ModelProto, layer: int) -> str:
    """The tensor of the states behind a layer, counted from 1.

    Raises:
        ModelError: the network has no layers behind it.
    """
    norms = [node.output[0] for node in model.graph.node if node.op_type == "LayerNormalization"]
    if not 0 < NORMS_A_LAYER * layer < len(norms) - NORMS_A_LAYER:
        raise ModelError(f"an exit behind layer {layer}: the network has {(len(norms) - 1) // NORMS_A_LAYER}")
    return norms[NORMS_A_LAYER * layer]


def tapped(model: ModelProto, tensor: str) -> ModelProto:
    """The network with one of its inner tensors as a further output."""
    copied = ModelProto()
    copied.CopyFrom(model)
    copied.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    return copied


def with_exit(model: ModelProto, layer: int, head: ExitHead, bar: float) -> ModelProto:
    """The network with an exit behind a layer.

    Args:
        model: inputs ``input_ids`` and ``attention_mask``, outputs the unsafe logit [batch], then the labels'
            [batch, labels].
        layer: counted from 1.
        head: what speaks there.
        bar: the logit of "the rest is needed" up to which it is not run.

    Raises:
        ModelError: the network has no layers behind that one.
    """
    graph, state = model.graph, state_of(model, layer)
    early, late = needed(graph, [state]), needed(graph, [state], keep=False)
    unsafe, labels = (output.name for output in graph.output)
    weights = _weights(head, bar)
    used_early = {name for node in early for name in node.input}
    branches = [
        helper.make_graph(_renamed(late, {unsafe: "late_unsafe", labels: "late_labels"}), "late", [],
                          _outputs("late", graph.output), [t for t in graph.initializer if t.name not in used_early]),
        helper.make_graph(
            [helper.make_node("Squeeze", ["exit_score", "exit_one"], ["early_unsafe"]),
             helper.make_node("Identity", ["exit_labels"], ["early_labels"])],
            "early", [], _outputs("early", graph.output)),
    ]  # fmt: skip
    choice = helper.make_node("If", ["exit_late"], [unsafe, labels], then_branch=branches[0], else_branch=branches[1])
    initializers = [*(t for t in graph.initializer if t.name in used_early), *weights]
    whole = helper.make_graph([*early, *_head(state), choice], "network", graph.input, graph.output, initializers)
    made = helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(made)
    return made


def _outputs(prefix: str, outputs: Sequence[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """The outputs of a branch: of the same shapes as the network's, unsafe and then the labels."""
    found = []
    for name, output in zip(("unsafe", "labels"), outputs, strict=True):
        value = onnx.ValueInfoProto()
        value.CopyFrom(output)
        value.name = f"{prefix}_{name}"
        found.append(value)
    return found


def _renamed(nodes: Sequence[NodeProto], names: dict[str, str]) -> list[NodeProto]:
    """Copies of nodes that make some of their tensors under other names."""
    copies = []
    for node in nodes:
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.output[:] = [names.get(name, name) for name in node.output]
        copies.append(copy)
    return copies


def _weights(head: ExitHead, bar: float) -> list[TensorProto]:
    def floats(values: object) -> NDArray[np.float32]:
        return np.asarray(values, np.float32)

    layers = {"read": head.read, "mix": head.mix, "say": head.say}
    found = {f"exit_{name}_weight": floats(layer.weight.detach().numpy().T) for name, layer in layers.items()}
    found |= {f"exit_{name}_bias": floats(layer.bias.detach().numpy()) for name, layer in layers.items()}
    found |= {"exit_bar": floats(bar), "exit_masked": floats(MASKED), "exit_none": floats(0)}
    sizes = {
        "exit_parts": [QUERIES, VALUES, PEAKS],
        "exit_said": [1, 1, head.say.out_features - 2],
        "exit_first": 0,
        "exit_one": [1],
        "exit_two": [2],
    }
    found |= {name: np.array(value, np.int64) for name, value in sizes.items()}
    return [numpy_helper.from_array(np.array(value, order="C"), name) for name, value in found.items()]


def _head(state: str) -> list[NodeProto]:
    """:class:`training.exit_head.ExitHead` as nodes: -> ``exit_late`` (bool), ``exit_score``, ``exit_labels``."""

    def linear(name: str, source: str, result: str) -> list[NodeProto]:
        return [
            helper.make_node("MatMul", [source, f"exit_{name}_weight"], [f"exit_{name}_product"]),
            helper.make_node("Add", [f"exit_{name}_product", f"exit_{name}_bias"], [result]),
        ]

    node = helper.make_node
    return [
        node("Cast", [MASK], ["exit_mask"], to=TensorProto.BOOL),
        node("Unsqueeze", ["exit_mask", "exit_two"], ["exit_there"]),
        *linear("read", state, "exit_read"),
        node("Split", ["exit_read", "exit_parts"], ["exit_queries", "exit_values", "exit_peaks"], axis=2),
        node("Where", ["exit_there", "exit_queries", "exit_masked"], ["exit_seen"]),
        node("Softmax", ["exit_seen"], ["exit_attention"], axis=1),
        node("Transpose", ["exit_attention"], ["exit_attention_by_query"], perm=[0, 2, 1]),
        node("MatMul", ["exit_attention_by_query", "exit_values"], ["exit_pooled_by_query"]),
        node("Flatten", ["exit_pooled_by_query"], ["exit_pooled"], axis=1),
        node("Relu", ["exit_peaks"], ["exit_risen"]),
        node("Where", ["exit_there", "exit_risen", "exit_none"], ["exit_risen_there"]),
        node("ReduceMax", ["exit_risen_there"], ["exit_largest"], axes=[1], keepdims=0),
        node("Gather", [state, "exit_first"], ["exit_token"], axis=1),
        node("Concat", ["exit_pooled", "exit_largest", "exit_token"], ["exit_features"], axis=1),
        *linear("mix", "exit_features", "exit_mixed"),
        node("Relu", ["exit_mixed"], ["exit_hidden"]),
        *linear("say", "exit_hidden", "exit_all"),
        node("Split", ["exit_all", "exit_said"], ["exit_need", "exit_score", "exit_labels"], axis=1),
        node("ReduceMax", ["exit_need"], ["exit_most"], keepdims=0),
        node("Greater", ["exit_most", "exit_bar"], ["exit_late"]),
    ]
