"""Softmax classes as label logits (torch)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def softmax_logits(logits: Tensor) -> Tensor:
    """Logits of a softmax [batch, classes] -> the logit ``log(p / (1 - p))`` of each class's probability."""
    classes = logits.shape[-1]
    # log(p / (1 - p)) = z - logsumexp of the other classes' z, which stays exact where p rounds to 1.
    others = logits.unsqueeze(-2).expand(*logits.shape[:-1], classes, classes)
    number = torch.arange(classes, device=logits.device)
    same = number.unsqueeze(1) == number  # torch.eye exports to an operator that ONNX Runtime lacks for booleans
    return logits - others.masked_fill(same, -torch.inf).logsumexp(-1)


class HazardSoftmax(nn.Module):
    """A sequence classifier -> the largest label logit [batch], for information, and the label logits [batch, labels].

    ``order`` lists the classifier's outputs in the order of the labels.
    """

    def __init__(self, classifier: nn.Module, order: Sequence[int]) -> None:
        super().__init__()
        self.classifier = classifier
        self.order = list(order)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, tokens] -> see the class."""
        logits = self.classifier(input_ids=input_ids, attention_mask=attention_mask).logits
        labels = softmax_logits(logits.float())[:, self.order]
        return labels.amax(-1), labels
