"""Smoothing changes no result, and makes dynamic int8 exacter where a few channels are much larger than the others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.smooth import SmoothedLinear, smoothed


class Network(nn.Module):
    """Three matrices on one activation, a fourth on what comes of them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.dense = nn.Linear(32, 32)
        self.head = nn.Linear(32, 1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(ids) * mask[..., None]
        return self.head(torch.relu(self.dense(self.query(x) + self.key(x) * self.value(x)))).squeeze(-1)


def _network() -> Network:
    torch.manual_seed(0)
    network = Network().eval()
    with torch.no_grad():
        network.embed.weight[:, 3] *= 60  # the outlier channel
        for matrix in (network.query, network.key, network.value):
            matrix.weight[:, 3] /= 60
    return network


def _batches() -> list[tuple[Tensor, Tensor]]:
    return [(torch.arange(50)[None], torch.ones(1, 50, dtype=torch.long))]


def test_the_result_stays_and_the_head_is_left_alone() -> None:
    network, (ids, mask) = _network(), _batches()[0]
    easier = smoothed(network, _batches())
    assert torch.allclose(network(ids, mask), easier(ids, mask), rtol=1e-4, atol=1e-4)
    assert isinstance(network.query, nn.Linear), "the network itself stays as it is"
    assert isinstance(easier.head, nn.Linear)
    matrices = [easier.query, easier.key, easier.value, easier.dense]
    assert all(isinstance(matrix, SmoothedLinear) for matrix in matrices)


def test_matrices_that_read_one_activation_share_its_scales() -> None:
    easier = smoothed(_network(), _batches())
    assert easier.query.inverse is easier.key.inverse is easier.value.inverse
    assert easier.dense.inverse is not easier.query.inverse


def test_the_range_of_an_activation_is_evened_out() -> None:
    network, (ids, _) = _network(), _batches()[0]
    easier = smoothed(network, _batches())
    before = network.embed(ids).abs().amax((0, 1))
    after = before * easier.query.inverse
    assert after.max() / after.median() < 0.2 * before.max() / before.median()
