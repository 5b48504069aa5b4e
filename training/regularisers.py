"""Regularisers: FGM (adversarial embeddings) and EMA (an average of the weights) of TinySafe v2; dropout for LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def adversarial_embeddings(embedding: nn.Parameter, epsilon: float) -> Iterator[None]:
    """Moves an embedding table by epsilon along its gradient for the length of the block (FGM, Miyato et al. 2017).

    Run it after the clean backward pass and do a second forward and backward inside: the gradients add up.
    """
    gradient = embedding.grad
    norm = gradient.norm() if gradient is not None else torch.tensor(0.0)
    if gradient is None or not torch.isfinite(norm) or norm == 0:
        yield
        return
    backup = embedding.data.clone()
    embedding.data.add_(gradient, alpha=float(epsilon / norm))
    try:
        yield
    finally:
        embedding.data.copy_(backup)


class TextDropout(nn.Module):
    """Dropout of features [batch, tokens, hidden] with one mask for all tokens of a text (Gal & Ghahramani 2016).

    On a CPU drawing a number for every token takes longer than the matrix product after it; this halves a LoRA step.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, features: Tensor) -> Tensor:
        """Scaled by 1 / (1 - p) while it trains, as it is otherwise."""
        if not self.training or self.p == 0:
            return features
        kept = torch.rand(features.shape[0], 1, features.shape[-1], device=features.device) >= self.p
        return features * (kept / (1 - self.p)).to(features.dtype)


class WeightAverage:
    """Exponential moving average of the trainable weights, with the decay warmed up so that the start is forgotten."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.average: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights after an optimiser step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, parameter in model.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Puts the average into the model for the length of the block."""
        live = {name: parameter for name, parameter in model.named_parameters() if name in self.average}
        backup = {name: parameter.detach().clone() for name, parameter in live.items()}
        with torch.no_grad():
            for name, parameter in live.items():
                parameter.copy_(self.average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in live.items():
                    parameter.copy_(backup[name])
