"""The DuoGuard network (torch)."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.runtime.classifier import LastToken


class DuoGuardNetwork(nn.Module):
    """A decoder -> the largest label logit [batch] and the label logits [batch, 12]."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = LastToken(classifier)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, tokens] -> see the class."""
        labels: Tensor = self.decoder(input_ids, attention_mask)
        return labels.amax(-1), labels
