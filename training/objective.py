"""The loss of a recipe: of the binary logit against labels and teachers, and of the labels, weighted and summed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.batches import Batch
from training.data.mix import Example
from training.losses import (
    asymmetric_loss,
    binary_cross_entropy,
    class_balanced_weights,
    focal_loss,
    multilabel_cross_entropy,
    softmax_cross_entropy,
)
from training.recipe import Loss


class Objective:
    """Logits and targets -> the losses by name; ``loss`` is their sum."""

    def __init__(
        self, loss: Loss, train: Mapping[str, Sequence[Example]], device: torch.device, teachers_weight: float = 0.0
    ) -> None:
        self._loss, self._teachers_weight = loss, teachers_weight
        cells = torch.tensor([example.labels for examples in train.values() for example in examples])
        self._weights = class_balanced_weights((cells == 1).sum(0), beta=loss.class_balance_beta).to(device)

    def __call__(self, unsafe: Tensor, labels: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``unsafe`` [batch] and ``labels`` [batch, labels] are the network's logits, of any float type."""
        shape, parts = self._loss, dict[str, Tensor]()
        if shape.binary != "none":
            parts[shape.binary] = shape.binary_weight * self._of_binary(unsafe.float(), batch.unsafe)
        if self._teachers_weight:
            judged = torch.sigmoid(batch.teacher)
            parts["teachers"] = self._teachers_weight * binary_cross_entropy(unsafe.float(), judged)
        if shape.labels != "none":
            parts[shape.labels] = shape.label_weight * self._of_labels(labels.float(), batch.labels)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _of_binary(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self._loss.binary == "cross_entropy":
            return binary_cross_entropy(logits, targets)
        return focal_loss(logits, targets, gamma=self._loss.focal_gamma, smoothing=self._loss.label_smoothing)

    def _of_labels(self, logits: Tensor, targets: Tensor) -> Tensor:
        shape = self._loss
        if shape.labels == "bce":
            return binary_cross_entropy(logits, targets)
        if shape.labels == "multilabel":
            return multilabel_cross_entropy(logits, targets)
        if shape.labels == "softmax":
            return softmax_cross_entropy(logits, targets)
        return asymmetric_loss(
            logits,
            targets,
            self._weights,
            gamma_positive=shape.gamma_positive,
            gamma_negative=shape.gamma_negative,
            clip=shape.clip,
        )
