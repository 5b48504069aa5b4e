"""The TinySafe network: a pooled encoder, a binary head and a category head (torch; training and export)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn


def mean_pool(states: Tensor, attention_mask: Tensor) -> Tensor:
    """States [batch, tokens, hidden] -> their mean over real tokens [batch, hidden]."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


class TinySafeNetwork(nn.Module):
    """``backbone`` (a transformers encoder) -> pooling -> ``binary_head`` and ``category_head``.

    Keys and dropout are TinySafe v2's: in training the logits are averaged over several dropout masks (Inoue 2019),
    in evaluation there is none. ``pooling`` is "first" as in TinySafe v1 and v2, or "mean" for encoders such as
    all-MiniLM whose mean is what they were pretrained for.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        hidden: int,
        labels: int,
        dropout: float = 0.1,
        dropout_samples: int = 5,
        pooling: Literal["first", "mean"] = "mean",
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.backbone = backbone
        self.dropouts = nn.ModuleList(nn.Dropout(dropout) for _ in range(dropout_samples))
        self.binary_head = nn.Linear(hidden, 1)
        self.category_head = nn.Linear(hidden, labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, tokens] -> binary logits [batch] and category logits [batch, labels]."""
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        pooled = states[:, 0] if self.pooling == "first" else mean_pool(states, attention_mask)
        pooled = pooled.to(self.binary_head.weight.dtype)
        if not self.training:
            return self.binary_head(pooled).squeeze(-1), self.category_head(pooled)
        masked = [dropout(pooled) for dropout in self.dropouts]
        binary = torch.stack([self.binary_head(m).squeeze(-1) for m in masked]).mean(0)
        return binary, torch.stack([self.category_head(m) for m in masked]).mean(0)
