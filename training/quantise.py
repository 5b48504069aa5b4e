"""Torch network -> ONNX -> int8, each step behind a parity gate.

Embedding tables are quantised row by row inside the network, matrix products by ONNX Runtime's dynamic quantisation:
8-bit activations against 7-bit weights (``reduce_range``), whose sums of products fit 16 bits, so that CPUs with and
without VNNI compute the same scores. The heads stay in float32. Outlier channels are smoothed first (training.smooth).
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[import-untyped]
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]
from torch import Tensor, nn

from stages.errors import ModelError
from stages.runtime.onnx import OnnxNetwork
from stages.stage import Window

if TYPE_CHECKING:
    import onnx

FP32_TOLERANCE = 2e-4  # logits, ONNX against torch
INT8_MEAN, INT8_AGREEMENT = 0.15, 0.97  # on texts: mean difference of the binary logit, share of equal signs
HEADS = ("head", "/classifier/classifier", "/pooler")  # in the names of nodes
SHAPES = ((1, 3), (2, 17), (3, 64), (2, 200))  # batch x tokens, each tried with and without a padded row


class RowQuantisedEmbedding(nn.Module):
    """An embedding table as int8 with a float16 scale for each row."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        scale = (table.abs().amax(1, keepdim=True) / 127.0).half().clamp(min=2**-24)
        self.register_buffer("codes", torch.round(table / scale.float()).clamp(-127, 127).to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids [...] -> rows [..., hidden]."""
        codes, scale = self.get_buffer("codes"), self.get_buffer("scale")
        embedding = torch.nn.functional.embedding  # exports as one Gather each
        return embedding(ids, codes).float() * embedding(ids, scale).float()


def with_quantised_embeddings(network: nn.Module) -> nn.Module:
    """A copy of a network whose large embedding tables are int8."""
    copied = copy.deepcopy(network).eval()
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Embedding) and child.num_embeddings > 64:
                setattr(parent, name, RowQuantisedEmbedding(child.weight.detach()))
    return copied


def export_onnx(network: nn.Module, path: Path, label_output: str) -> None:
    """Writes an ONNX file with dynamic batch and length: ``input_ids``, ``attention_mask`` -> ``binary_logit``, labels.

    Raises:
        ModelError: ONNX Runtime computes something else than torch.
    """
    network.eval()
    ids = torch.randint(5, 1000, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, 11:] = 0
    axes = {0: "batch", 1: "tokens"}
    with warnings.catch_warnings():
        # They say that this exporter is the old one, and what a trace may get wrong: the parity gate tries that.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (ids, mask),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["binary_logit", label_output],
            dynamic_axes={
                "input_ids": axes,
                "attention_mask": axes,
                "binary_logit": {0: "batch"},
                label_output: {0: "batch"},
            },
            opset_version=17,
            dynamo=False,
        )
    network.eval()
    worst = parity(network, path, label_output)
    if worst > FP32_TOLERANCE:
        raise ModelError(f"{path.name}: differs from torch by {worst:.2g} logits, {FP32_TOLERANCE} are allowed")


def quantise(source: Path, target: Path) -> None:
    """Writes the int8 form of an ONNX file."""
    import onnx

    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared)).graph
        # A product with one row per text costs nothing and decides everything: the heads stay as they are.
        products = (node.name for node in graph.node if node.op_type in ("MatMul", "Gemm"))
        heads = [name for name in products if any(head in name for head in HEADS)]
        quantize_dynamic(
            str(prepared),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=heads,
            extra_options={"MatMulConstBOnly": True},
        )
    model = onnx.load(str(target))
    _shorten_names(model.graph)
    onnx.save(model, str(target))


def _shorten_names(graph: onnx.GraphProto) -> None:
    """Gives every tensor inside a graph a short name and its nodes none: paths of modules take 1 % of a small file."""
    kept = {value.name for value in [*graph.input, *graph.output]} | {""}
    short: dict[str, str] = {}

    def rename(name: str) -> str:
        return name if name in kept else short.setdefault(name, f"t{len(short)}")

    for initializer in graph.initializer:
        initializer.name = rename(initializer.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    del graph.value_info[:]


def assert_agreement(
    fp32: Path, int8: Path, label_output: str, windows: Sequence[Window], pad_id: int
) -> tuple[float, float]:
    """Compares an int8 file with its float32 source on real windows, each run by itself as in serving.

    Returns:
        The mean difference of the binary logit and the share of windows on whose sign both agree.

    Raises:
        ModelError: the difference is above ``INT8_MEAN`` or the agreement below ``INT8_AGREEMENT``.
    """
    networks = [OnnxNetwork(path, ("binary_logit", label_output), threads=2, pad_id=pad_id) for path in (fp32, int8)]
    one, other = (np.array([net.run([window])[0].item() for window in windows]) for net in networks)
    mean, agreement = float(np.abs(one - other).mean()), float(((one > 0) == (other > 0)).mean())
    if mean > INT8_MEAN or agreement < INT8_AGREEMENT:
        raise ModelError(f"int8 differs from float32 by {mean:.3f} logits on average and agrees on {agreement:.1%}")
    return mean, agreement


def assert_parity(one: nn.Module, other: nn.Module, *, what: str) -> None:
    """Refuses two torch networks that compute different logits.

    Raises:
        ModelError: they differ by more than ``FP32_TOLERANCE``.
    """
    ids = torch.randint(5, 1000, (3, 40), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[1, 20:] = 0
    with torch.inference_mode():
        pairs = zip(one(ids, mask), other(ids, mask), strict=True)
        worst = max(float((a - b).abs().max()) for a, b in pairs)
    if not worst <= FP32_TOLERANCE:
        raise ModelError(f"{what} differs by {worst:.2g} logits, {FP32_TOLERANCE} are allowed")


def parity(network: nn.Module, path: Path, label_output: str) -> float:
    """The largest difference in logits between torch and an ONNX file, over several shapes and padded rows."""
    session = OnnxNetwork(path, ("binary_logit", label_output))
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for batch, tokens in SHAPES:
        for shorter in (0, tokens // 2):
            ids = torch.randint(5, 1000, (batch, tokens), generator=generator)
            mask = torch.ones_like(ids)
            if shorter:
                mask[0, -shorter:] = 0
            windows = [Window(tuple(row[m.bool()].tolist()), 0, 0) for row, m in zip(ids, mask, strict=True)]
            with torch.inference_mode():
                expected: list[NDArray[np.float32]] = [out.float().numpy() for out in network(ids * mask, mask)]
            if all(len(w) < tokens for w in windows):  # the session pads to the longest only
                expected = [e[:1] for e in expected]
            found = session.run(windows)
            worst = max(worst, *(float(np.abs(f - e).max()) for f, e in zip(found, expected, strict=True)))
    return worst
