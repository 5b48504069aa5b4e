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

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Those of several processes one after the other."""
        examples = [example for part in parts for example in part.examples]
        return cls(examples, np.concatenate([p.unsafe for p in parts]), np.concatenate([p.labels for p in parts]))


@torch.inference_mode()
def predict(
    network: nn.Module,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    pad_id: int,
    size: int = 64,
    *,
    bf16: bool = True,
) -> Predictions:
    """Scores examples in batches of like length, on the device that the network is on."""
    device = next(network.parameters()).device
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].text))
    unsafe = np.zeros(len(examples))
    labels = np.zeros((len(examples), len(examples[0].labels) if examples else 0))
    for start in range(0, len(order), size):
        piece = order[start : start + size]
        batch = to_batch([examples[i] for i in piece], tokenizer, pad_id).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            binary, label_logits = network(batch.input_ids, batch.attention_mask)
        unsafe[piece] = binary.float().cpu().numpy()
        labels[piece] = label_logits.float().cpu().numpy()
    return Predictions(list(examples), unsafe, labels)


def summarise(predictions: Predictions) -> dict[str, float]:
    """The figures that a recipe may choose by.

    auroc, auprc_SOURCE of each watched source and of the rest, auprc_labels (their mean over labels) and the mean of
    the AUPRCs, ``score``; at probability 0.5: f1, unsafe_recall, f1_macro and accuracy of safe against unsafe; and of
    the largest label, where exactly one is held: label_accuracy and label_f1, the mean over the labels.
    """
    return {**_ranked(predictions), **_decided(predictions), **_named(predictions)}


def _ranked(predictions: Predictions) -> dict[str, float]:
    figures: dict[str, float] = {}
    targets = np.array([example.unsafe for example in predictions.examples])
    known = ~np.isnan(targets)
    if len(set(targets[known].tolist())) == 2:
        figures["auroc"] = float(roc_auc_score(targets[known], predictions.unsafe[known]))
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
    if parts or "auroc" in figures:
        figures["score"] = float(np.mean(parts)) if parts else figures["auroc"]
    return figures


def _decided(predictions: Predictions) -> dict[str, float]:
    targets = np.array([example.unsafe for example in predictions.examples])
    known = ~np.isnan(targets)
    truth, said = targets[known] == 1, predictions.unsafe[known] > 0
    if truth.all() or not truth.any():
        return {}
    unsafe, safe = _f1(truth, said), _f1(~truth, ~said)
    return {
        "f1": unsafe,
        "unsafe_recall": float(said[truth].mean()),
        "f1_macro": (unsafe + safe) / 2,
        "accuracy": float((truth == said).mean()),
    }


def _named(predictions: Predictions) -> dict[str, float]:
    cells = np.array([example.labels for example in predictions.examples])
    single = np.nansum(cells == 1, axis=1) == 1
    if not single.any():
        return {}
    truth, said = (cells[single] == 1).argmax(1), predictions.labels[single].argmax(1)
    classes = np.unique(truth)
    f1 = [_f1(truth == c, said == c) for c in classes]
    return {"label_accuracy": float((truth == said).mean()), "label_f1": float(np.mean(f1))}


def _f1(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> float:
    right = (truth & said).sum()
    return float(2 * right / max(1, truth.sum() + said.sum()))


def label_auprc(predictions: Predictions) -> list[float]:
    """AUPRC of each label with enough known cells of both kinds."""
    cells = np.array([example.labels for example in predictions.examples])
    found = []
    for column in range(cells.shape[1]):
        known = ~np.isnan(cells[:, column])
        if min((cells[known, column] == 1).sum(), (cells[known, column] == 0).sum()) >= MIN_OF_A_CLASS:
            found.append(float(average_precision_score(cells[known, column], predictions.labels[known, column])))
    return found
