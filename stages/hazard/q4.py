"""4-bit blocks without loss: the form in which a 4-bit base model ships (numpy only).

A matrix [rows, columns] becomes ``NAME.q4`` (uint8 [rows, columns / 2], the low nibble is the even column) and
``NAME.scale`` (float16 [rows, columns / 32]); a value is ``(nibble - 8) * scale``. This is llama.cpp's Q4_0 with the
nibbles in plain column order. Weights that came from 4 bits and stayed frozen go in and come out bit for bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stages.errors import ModelError

BLOCK = 32


def encode(weights: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Packs a matrix whose blocks are 4-bit already.

    Raises:
        ModelError: the matrix does not come back equal, so it was not 4-bit.
    """
    rows, columns = weights.shape
    blocks = weights.reshape(rows, columns // BLOCK, BLOCK)
    # Q4_0 scales a block by its value of largest magnitude, which gets the nibble 0 and so stands for -8 * scale.
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scales = (extreme / -8.0).astype(np.float16)
    safe = np.where(scales == 0, np.float16(1), scales).astype(np.float32)
    nibbles = (np.rint(blocks / safe) + 8).clip(0, 15).astype(np.uint8).reshape(rows, columns)
    packed = nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)
    scales = scales[..., 0]
    if not np.array_equal(decode(packed, scales), weights):
        raise ModelError("the weights are not 4-bit blocks: packing them would lose precision")
    return packed, scales


def rounded(weights: NDArray[np.float32], *, scales: int = 16) -> NDArray[np.float32]:
    """A near matrix that :func:`encode` packs without loss.

    Of ``scales`` scales of each block, from 0.7 to 1 of the one that keeps its extreme value, the one of least squared
    error is taken: to clip the extreme a little spares the others.
    """
    rows, columns = weights.shape
    blocks = weights.reshape(rows, columns // BLOCK, BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    best, least = np.zeros_like(blocks), np.full(extreme.shape, np.inf, np.float32)
    for factor in np.linspace(0.7, 1.0, scales, dtype=np.float32):
        scale = (factor * extreme / -8.0).astype(np.float16).astype(np.float32)
        values = (np.rint(blocks / np.where(scale == 0, 1, scale)).clip(-8, 7) * scale).astype(np.float32)
        error = np.square(values - blocks).sum(-1, keepdims=True)
        best, least = np.where(error < least, values, best), np.minimum(error, least)
    return best.reshape(rows, columns)


def decode(packed: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.float32]:
    """The matrix [rows, columns] of packed nibbles [rows, columns / 2] and scales [rows, columns / 32]."""
    rows, half = packed.shape
    nibbles = np.empty((rows, half * 2), np.float32)
    nibbles[:, 0::2] = packed & 15
    nibbles[:, 1::2] = packed >> 4
    nibbles -= 8.0
    nibbles.reshape(rows, -1, BLOCK)[...] *= scales.astype(np.float32)[..., None]
    return nibbles
