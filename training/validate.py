"""Scores examples with a torch network and sums the scores up into the figure that early stopping watches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]
from tokenizers import Tokenizer
from torch import nn

from training.batches import to_batch
from training.data.mix import Example

MIN_OF_A_CLASS = 8
# What a guard meets: the sources that sets of this name come from count one by one, all others together.
WATCHED = ("toxicchat", "guard_prompts")


@dataclass(frozen=True)
class Predictions:
    """Logits of examples, in their order: ``unsafe`` [n] and ``labels`` [n, labels]."""

    examples: list[Example]
    unsafe: NDArray[np.float64]
    labels: NDArray[np.float64]


@torch.inference_mode()
def predict(
    network: nn.Module, examples: Sequence[Example], tokenizer: Tokenizer, pad_id: int, size: int = 64
) -> Predictions:
    """Scores examples in batches of like length."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].text))
    unsafe = np.zeros(len(examples))
    labels = np.zeros((len(examples), len(examples[0].labels)))
    for start in range(0, len(order), size):
        piece = order[start : start + size]
        batch = to_batch([examples[i] for i in piece], tokenizer, pad_id)
        with torch.autocast("cpu", torch.bfloat16):
            binary, label_logits = network(batch.input_ids, batch.attention_mask)
        unsafe[piece] = binary.float().numpy()
        labels[piece] = label_logits.float().numpy()
    return Predictions(list(examples), unsafe, labels)


def summarise(predictions: Predictions) -> dict[str, float]:
    """AUPRC of each watched source and of the rest, AUROC of all, mean label AUPRC, and their mean as ``score``."""
    targets = np.array([example.unsafe for example in predictions.examples])
    known = ~np.isnan(targets)
    figures: dict[str, float] = {"auroc": float(roc_auc_score(targets[known], predictions.unsafe[known]))}
    members: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(predictions.examples):
        if known[index]:
            members[example.source if example.source in WATCHED else "rest"].append(index)
    parts = []
    for name, indices in sorted(members.items()):
        if min(targets[indices].sum(), (1 - targets[indices]).sum()) >= MIN_OF_A_CLASS:
            figures[f"auprc_{name}"] = float(average_precision_score(targets[indices], predictions.unsafe[indices]))
            parts.append(figures[f"auprc_{name}"])
    label_figures = label_auprc(predictions)
    if label_figures:
        figures["auprc_labels"] = float(np.mean(label_figures))
        parts.append(figures["auprc_labels"])
    figures["score"] = float(np.mean(parts)) if parts else figures["auroc"]
    return figures


def label_auprc(predictions: Predictions) -> list[float]:
    """AUPRC of each label with enough known cells of both kinds."""
    cells = np.array([example.labels for example in predictions.examples])
    found = []
    for column in range(cells.shape[1]):
        known = ~np.isnan(cells[:, column])
        if min((cells[known, column] == 1).sum(), (cells[known, column] == 0).sum()) >= MIN_OF_A_CLASS:
            found.append(float(average_precision_score(cells[known, column], predictions.labels[known, column])))
    return found
