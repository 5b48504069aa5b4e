"""4-bit blocks come back bit for bit, and anything else is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import ModelError
from stages.hazard import q4


def four_bit(rows, columns, seed):
    """A matrix as llama.cpp's Q4_0 leaves it: each block's largest magnitude is -8 times its scale."""
    rng = np.random.default_rng(seed)
    nibbles = rng.integers(-7, 8, (rows, columns // 32, 32)).astype(np.float32)
    nibbles[..., rng.integers(0, 32)] = -8
    scales = rng.normal(0, 0.02, (rows, columns // 32, 1)).astype(np.float16).astype(np.float32)
    return (nibbles * scales).reshape(rows, columns)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_round_trip(rows, blocks, seed):
    weights = four_bit(rows, blocks * 32, seed)
    packed, scales = q4.encode(weights)
    assert packed.shape == (rows, blocks * 16)
    assert scales.shape == (rows, blocks)
    assert np.array_equal(q4.decode(packed, scales), weights)


def test_zero_blocks():
    assert np.array_equal(q4.decode(*q4.encode(np.zeros((2, 32), np.float32))), np.zeros((2, 32)))


def test_weights_of_more_bits_are_refused():
    with pytest.raises(ModelError, match="not 4-bit"):
        q4.encode(np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32))
