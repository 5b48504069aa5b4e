"""The judge's network (torch)."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.runtime.classifier import LastToken


class JudgeNetwork(nn.Module):
    """A decoder with 1 + labels classes -> binary logits [batch] and hazard logits [batch, labels]."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = LastToken(classifier)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, tokens] -> see the class."""
        classes: Tensor = self.decoder(input_ids, attention_mask)
        return classes[:, 0], classes[:, 1:]
