"""The constitutional classifier's network (torch)."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.runtime.classifier import LastToken


class ConstitutionalNetwork(nn.Module):
    """A decoder with the classes safe and toxic -> the logit of toxic [batch] and no labels [batch, 0]."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = LastToken(classifier)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [batch, tokens] -> see the class."""
        classes: Tensor = self.decoder(input_ids, attention_mask)
        return classes[:, 1] - classes[:, 0], classes[:, :0]
