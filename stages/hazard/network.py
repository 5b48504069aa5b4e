"""The hazard network: a LoRA-adapted encoder, mean pooling, LayerNorm, a binary head and 14 hazard heads (torch)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.tinysafe.network import mean_pool


class HazardHead(nn.Module):
    """Pooled states [batch, hidden] -> binary logits [batch] and hazard logits [batch, labels].

    The LayerNorm is not decoration: mean-pooled E5 features vary little around a large common vector, and a bare
    linear head learns nothing from them for a long time.
    """

    def __init__(self, hidden: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.binary = nn.Linear(hidden, 1)
        self.hazards = nn.Linear(hidden, labels)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = self.dropout(self.norm(pooled))
        return self.binary(features).squeeze(-1), self.hazards(features)


class HazardNetwork(nn.Module):
    """``backbone`` (an encoder, usually a PEFT model) -> mean over real tokens -> ``head``."""

    def __init__(self, backbone: nn.Module, *, hidden: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = HazardHead(hidden, labels, dropout)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, tokens] -> binary logits [batch] and hazard logits [batch, labels]."""
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        binary, hazards = self.head(mean_pool(states, attention_mask))
        return torch.as_tensor(binary), torch.as_tensor(hazards)
