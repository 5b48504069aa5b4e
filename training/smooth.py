"""SmoothQuant for dynamic int8: outlier channels of activations are scaled down, their weights up (Xiao et al. 2022).

One 8-bit range serves all channels of an activation, so that a few large channels leave the others a handful of steps.
``(x / s) (s W)`` is the same product with an easier ``x / s``. Here the division stays in the graph as a product with a
constant, one for all matrices that read the same activation: a post-norm encoder's residual stream needs ``x`` itself.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

STRENGTH = 0.8  # how much of an activation's range moves into the weights; the paper's alpha
_HEAD = re.compile(r"head(\.|$)|classifier$|pooler")  # stay in float32, see training.quantise
LEAST = 1e-3  # of the median channel: a channel that is always near 0 must not blow its weights up


class SmoothedLinear(nn.Module):
    """``linear(x * inverse)``; the linear layer has the scales in its weights."""

    def __init__(self, linear: nn.Linear, inverse: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("inverse", inverse)

    def forward(self, features: Tensor) -> Tensor:
        """As the linear layer that it was made from, up to rounding."""
        return torch.as_tensor(self.linear(features * self.get_buffer("inverse")))


def smoothed(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> nn.Module:
    """A copy of a network whose matrices outside the head are smoothed; ``batches`` are ids and masks [batch, tokens].

    Padding is not told from text, so batches should hold none, or little.
    """
    copied = copy.deepcopy(network).eval()
    groups = _matrices_by_input(copied, batches)
    parents = {id(child): (parent, name) for parent in copied.modules() for name, child in parent.named_children()}
    for linears, largest in groups:
        weights = torch.stack([linear.weight.detach().abs().amax(0) for linear in linears]).amax(0)
        scale = largest.clamp(min=LEAST * float(largest.median())).pow(STRENGTH)
        scale = scale / weights.clamp(min=LEAST * float(weights.median())).pow(1 - STRENGTH)
        inverse = 1 / scale
        for linear in linears:
            linear.weight = nn.Parameter(linear.weight.detach() * scale, requires_grad=False)
            parent, name = parents[id(linear)]
            setattr(parent, name, SmoothedLinear(linear, inverse))
    return copied


@torch.inference_mode()
def _matrices_by_input(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> list[tuple[list[nn.Linear], Tensor]]:
    """Linear layers that read the same activation, with the largest absolute value of each of its channels."""
    largest: dict[nn.Linear, Tensor] = {}
    readers: dict[nn.Linear, nn.Linear] = {}  # layer -> the first one that reads the same activation
    seen: dict[int, tuple[Tensor, nn.Linear]] = {}  # activations are kept alive, so that an id means one of them

    def watch(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Linear)
        features = inputs[0]
        first = seen.setdefault(id(features), (features, layer))[1]
        readers[layer] = first
        if first is layer:
            found = features.detach().abs().flatten(0, -2).amax(0).float()
            largest[layer] = torch.maximum(largest[layer], found) if layer in largest else found

    layers = [m for name, m in network.named_modules() if isinstance(m, nn.Linear) and not _HEAD.search(name)]
    hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
    try:
        for ids, mask in batches:
            seen.clear()
            network(ids, mask)
    finally:
        for hook in hooks:
            hook.remove()
    groups: dict[nn.Linear, list[nn.Linear]] = {}
    for layer, first in readers.items():
        groups.setdefault(first, []).append(layer)
    return [(members, largest[first].clone()) for first, members in groups.items()]
