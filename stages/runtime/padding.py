"""Windows -> the arrays that an encoder takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.stage import Window


def padded(windows: Sequence[Window], pad_id: int, width: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and attention mask [batch, tokens]: as wide as the longest window, or as ``width`` if that is more."""
    width = max(width, max(len(window) for window in windows))
    ids = np.full((len(windows), width), pad_id, np.int64)
    mask = np.zeros((len(windows), width), np.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window)] = window.ids
        mask[row, : len(window)] = 1
    return ids, mask
