"""Runs an exported encoder with OpenVINO (extra `openvino`): each call on the thread that makes it.

What ONNX Runtime quantised are many small steps to OpenVINO, which computes them in float32, three times slower than
ONNX Runtime does. So each becomes one product again, of float activations with the int8 weights and their scales.
OpenVINO then quantises activations on its own, token by token (``int8``), or computes all in ``bf16``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.errors import ModelError, StageError
from stages.runtime.padding import padded
from stages.stage import Window


def _import_quietly() -> Any:
    """OpenVINO without its telemetry, for which it has a stub: else its import alone tells Google Analytics."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: as if it were not installed
    import openvino

    return openvino


ov: Any = _import_quietly()

# From an int32 product up to the float activations that ONNX's DynamicQuantizeLinear was made of.
QUANTISED = ("Subtract", "Convert", "Convert", "Clamp", "Add", "Round", "Divide", "Multiply")
# Pinned threads of several workers would share cores.
ONE_THREAD = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": "1", "ENABLE_CPU_PINNING": "NO"}
INT8 = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"}
BF16 = {"INFERENCE_PRECISION_HINT": "bf16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
PROBE = Window(tuple(range(5, 29)), 0, 0)


class OpenVinoNetwork:
    """The network of :class:`stages.runtime.onnx.OnnxNetwork`, from the same file.

    Each window runs by itself, as there: what a text scores must not depend on whose texts it shares a batch with.
    ``calls`` is how many may run at the same time, each on one thread, each on a copy of the network. Streams of one
    copy would share its weights, but with several of them OpenVINO 2026.4 now and then mixes the scales of compressed
    weights up, so that logits are in the thousands.

    Raises:
        ModelError: the file is no such network, or its copies score differently.
    """

    batched = False
    oom_halvings = 0  # it is never given more than one window

    def __init__(
        self, path: Path, outputs: tuple[str, str], *, calls: int = 1, pad_id: int = 0, bf16: bool | None = None
    ) -> None:
        bf16 = has_amx() if bf16 is None else bf16
        self._outputs, self._pad_id = outputs, pad_id
        try:
            core = ov.Core()
            model = core.read_model(path)
            found = {name for port in [*model.inputs, *model.outputs] for name in port.names}
            missing = {"input_ids", "attention_mask", *outputs} - found
            if missing:
                raise ModelError(f"{path}: no input or output named {', '.join(sorted(missing))}")
            merged = merge_products(model, decode=bf16)
            options = ONE_THREAD | (BF16 if bf16 else INT8)
            requests = [core.compile_model(model, "CPU", options).create_infer_request() for _ in range(calls)]
        except RuntimeError as error:
            raise ModelError(f"{path}: not a network that OpenVINO can load ({_line(error)})") from error
        self.runtime = f"openvino-{'bf16' if bf16 else 'int8' if merged else 'float32'}"
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for request in requests:
            self._idle.put(request)
        # They come out of the queue in turn: each is checked, and warm before it serves.
        probed = [np.concatenate(self.run([PROBE]), axis=None) for _ in range(calls)]
        if any((one != probed[0]).any() for one in probed):
            raise ModelError(f"{path}: OpenVINO's copies of it score differently")

    def run(self, windows: Sequence[Window]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One padded batch of windows -> the two outputs, each [batch, ...].

        Raises:
            StageError: OpenVINO failed.
        """
        ids, mask = padded(windows, self._pad_id)
        request = self._idle.get()
        try:
            found = request.infer({"input_ids": ids, "attention_mask": mask})
            first, second = (np.array(found[name]) for name in self._outputs)
        except RuntimeError as error:
            raise StageError(f"OpenVINO failed: {type(error).__name__}") from error
        finally:
            self._idle.put(request)
        return first, second


def has_amx() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 in hardware made for it; what others do in int8 is faster."""
    try:
        return " amx_bf16 " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def merge_products(model: Any, *, decode: bool) -> int:
    """Replaces products of dynamically quantised activations by products of the activations; returns how many.

    ``decode`` makes their weights float32, which become whatever OpenVINO computes in; else they stay int8.

    Raises:
        ModelError: a quantised product has a form that this does not know.
    """
    count = 0
    for product in model.get_ordered_ops():
        if product.get_type_name() == "MatMul" and product.get_output_element_type(0) == ov.Type.i32:
            _merge(product, decode)
            count += 1
    model.validate_nodes_and_infer_types()
    return count


def _merge(product: Any, decode: bool) -> None:
    """(quantise(x) - zero) @ (w - zero) * (x's scale * w's scale) -> x @ (w * w's scale)."""
    step = product
    for kind in QUANTISED:
        step = _input(step, 0, kind)
    weights = _input(_input(_input(product, 1, "Subtract"), 0, "Convert"), 0, "Constant").data
    zero = _input(_input(_input(product, 1, "Subtract"), 1, "Convert"), 0, "Constant").data
    scaled = _only_user(_only_user(product, "Convert"), "Multiply")
    scales = [node.data for node in _inputs(_input(scaled, 1, "Multiply")) if node.get_type_name() == "Constant"]
    if len(scales) != 1 or weights.ndim != 2 or scales[0].size not in (1, weights.shape[1]) or zero.any():
        raise ModelError("a quantised product with weights of an unknown form")
    # One row for each output, as OpenVINO's own compressed weights lie.
    rows = np.ascontiguousarray(weights.T)
    scale = np.broadcast_to(scales[0].reshape(-1, 1), (len(rows), 1)).astype(np.float32)
    op = ov.opset13
    if decode:
        factor = op.constant(rows * scale)
    else:
        factor = op.multiply(op.convert(op.constant(rows), "f32"), op.constant(scale))
    merged = op.matmul(step.input_value(0), factor, False, True)
    scaled.output(0).replace(merged.output(0))


def _inputs(node: Any) -> list[Any]:
    return [port.get_source_output().get_node() for port in node.inputs()]


def _input(node: Any, index: int, kind: str) -> Any:
    found = _inputs(node)[index]
    if found.get_type_name() != kind:
        raise ModelError(f"a quantised product with {found.get_type_name()} where {kind} was expected")
    return found


def _only_user(node: Any, kind: str) -> Any:
    users = [port.get_node() for port in node.output(0).get_target_inputs()]
    if [user.get_type_name() for user in users] != [kind]:
        raise ModelError(f"a quantised product whose result is not used by one {kind}")
    return users[0]


def _line(error: Exception) -> str:
    """The last line of an error: those before it name lines of OpenVINO's sources."""
    return str(error).strip().splitlines()[-1][:200]
