"""Runs a torch module: *windows* -> length buckets -> padded batches -> *logits*, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.errors import DependencyError, ModelError, StageError
from stages.stage import Window

Logits = tuple[Tensor, Tensor]
Forward = Callable[[nn.Module, Tensor, Tensor, Sequence[Window]], Logits]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BUCKET = 64  # windows whose lengths round up to the same multiple of this run together
MAX_TOKENS = 16384  # of a batch, padding included


class TorchNetwork:
    """A torch module that maps ids and mask [batch, tokens] to unsafe logits [batch] and label logits [batch, labels].

    ``oom_halvings`` counts how often a batch was halved because the device's memory did not hold it.

    Args:
        module: put into evaluation mode and onto the device here.
        device: "cpu", "cuda" or "cuda:N".
        dtype: "float32" or "bfloat16"; None takes bfloat16 on a GPU that has it, else float32.
        pad_id: fills short rows up on the right; the mask hides it.
        forward: calls the module where ``module(input_ids=, attention_mask=)`` will not do; gets the windows too.
        max_tokens: the most tokens of a batch, padding included.

    Raises:
        DependencyError: there is no such device.
        ModelError: there is no such dtype.
    """

    batched = True

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str = "cpu",
        dtype: str | None = None,
        pad_id: int = 0,
        forward: Forward | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.device = open_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.oom_halvings = 0
        self._module = module.eval().requires_grad_(False).to(self.device)
        # The parameters only: of the buffers some, such as the frequencies of rotary positions, need all their digits.
        for parameter in self._module.parameters():
            parameter.data = parameter.data.to(self.dtype)
        self._forward = forward or _call
        self._pad_id, self._max_tokens = pad_id, max_tokens

    @property
    def runtime(self) -> str:
        """For :attr:`stages.stage.ModelInfo.runtime`, for instance "torch-float32"."""
        return f"torch-{str(self.dtype).removeprefix('torch.')}"

    def run(self, windows: Sequence[Window]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Windows -> unsafe logits [batch] and label logits [batch, labels], in order.

        Raises:
            StageError: torch failed, or the memory does not hold a single window.
        """
        unsafe: dict[int, NDArray[np.float32]] = {}
        labels: dict[int, NDArray[np.float32]] = {}
        todo = list(_batches([len(window) for window in windows], self._max_tokens))
        while todo:
            rows = todo.pop()
            try:
                first, second = self._run([windows[row] for row in rows])
            except torch.OutOfMemoryError as error:
                if len(rows) == 1:
                    raise StageError(f"the memory of {self.device} does not hold one window") from error
                halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
            except (RuntimeError, IndexError) as error:
                raise StageError(f"torch failed on {self.device}: {type(error).__name__}") from error
            else:
                unsafe.update(zip(rows, first, strict=True))
                labels.update(zip(rows, second, strict=True))
                continue
            # Out of the except block, where the error's traceback would still hold the tensors.
            self.oom_halvings += 1
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            todo += halves
        order = range(len(windows))
        return np.stack([unsafe[row] for row in order]), np.stack([labels[row] for row in order])

    @torch.inference_mode()
    def _run(self, windows: Sequence[Window]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        longest = max(len(window) for window in windows)
        ids = torch.full((len(windows), longest), self._pad_id, dtype=torch.long)
        mask = torch.zeros((len(windows), longest), dtype=torch.long)
        for row, window in enumerate(windows):
            ids[row, : len(window)] = torch.tensor(window.ids)
            mask[row, : len(window)] = 1
        unsafe, labels = self._forward(self._module, self._put(ids), self._put(mask), windows)
        return unsafe.float().cpu().numpy().reshape(len(windows)), labels.float().cpu().numpy()

    def _put(self, rows: Tensor) -> Tensor:
        """Onto the device; to a GPU out of pinned memory, so that the copy does not wait."""
        if self.device.type != "cuda":
            return rows.to(self.device)
        return rows.pin_memory().to(self.device, non_blocking=True)


def open_device(name: str) -> torch.device:
    """The torch device of a name.

    Raises:
        DependencyError: torch does not see it.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DependencyError(f"there is no device {name!r}; known are cpu, cuda and cuda:N") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise DependencyError(f"device {name}: torch {torch.__version__} sees {seen} CUDA devices here")
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The dtype of a name; None is bfloat16 on a GPU that has it, else float32.

    float16 is not offered: activations of DeBERTa and Gemma leave its range and end as NaN.

    Raises:
        ModelError: another name.
    """
    if name is None:
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name not in DTYPES:
        raise ModelError(f"dtype {name!r} is not offered, only {' and '.join(DTYPES)}")
    return DTYPES[name]


def _call(module: nn.Module, input_ids: Tensor, attention_mask: Tensor, windows: Sequence[Window]) -> Logits:
    unsafe, labels = module(input_ids=input_ids, attention_mask=attention_mask)
    return unsafe, labels


def _batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Rows by bucket of length, the longest last, each batch within the budget of padded tokens."""
    buckets: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        buckets.setdefault(-(-length // BUCKET) * BUCKET, []).append(row)
    for width in sorted(buckets):
        size = max(1, max_tokens // width)
        rows = sorted(buckets[width], key=lambda row: lengths[row])
        yield from (rows[start : start + size] for start in range(0, len(rows), size))
