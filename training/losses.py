"""Losses with unknown cells left out: focal for the binary head, class-balanced asymmetric for the labels.

A target of NaN is unknown and adds nothing, neither to the loss nor to its gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean of the known cells; 0 where none is known."""
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float = 2.0, smoothing: float = 0.0) -> Tensor:
    """Binary focal loss (Lin et al. 2017) of logits [batch] against targets [batch] in {0, 1, NaN}."""
    known = ~torch.isnan(targets)
    clean = torch.where(known, targets, 0.0)
    smooth = clean * (1 - smoothing) + 0.5 * smoothing
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    p_right = torch.where(clean > 0.5, torch.sigmoid(logits), torch.sigmoid(-logits))
    return masked_mean((1 - p_right).pow(gamma) * cross_entropy, known)


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    gamma_positive: float = 1.0,
    gamma_negative: float = 4.0,
    clip: float = 0.05,
) -> Tensor:
    """Asymmetric multi-label loss (Ridnik et al. 2021, with its probability shift) times a weight for each label.

    ``logits`` and ``targets`` are [batch, labels], ``weights`` [labels] as from :func:`class_balanced_weights`.
    """
    known = ~torch.isnan(targets)
    clean = torch.where(known, targets, 0.0)
    p = torch.sigmoid(logits)
    p_shifted = (p - clip).clamp(min=0)
    positive = clean * (1 - p).pow(gamma_positive) * torch.nn.functional.logsigmoid(logits)
    negative = (1 - clean) * p_shifted.pow(gamma_negative) * torch.log((1 - p_shifted).clamp(min=1e-6))
    return masked_mean(-(positive + negative) * weights, known)


def class_balanced_weights(positives: Tensor, *, beta: float = 0.9999) -> Tensor:
    """Weights (1 - beta) / (1 - beta^n) for label counts n (Cui et al. 2019), normalised to a mean of 1."""
    effective = (1 - beta) / (1 - torch.pow(torch.tensor(beta, dtype=torch.float64), positives.double().clamp(min=1)))
    return (effective / effective.mean()).float()


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of sigmoids, any shape, targets from 0 to 1 or NaN; TinySafe v1's loss of its categories.

    Of one logit that is the difference of two it is their softmax cross-entropy: so the constitutional head learns.
    """
    known = ~torch.isnan(targets)
    clean = torch.where(known, targets, 0.0)
    return masked_mean(torch.nn.functional.binary_cross_entropy_with_logits(logits, clean, reduction="none"), known)


def multilabel_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Multi-label categorical cross-entropy (Su et al. 2022, as in DuoGuard) of logits and targets [batch, labels].

    log(1 + sum of exp(-s) over positives) + log(1 + sum of exp(s) over negatives): every positive should lie above 0
    and every negative below, so that 0 is the natural threshold. Unknown cells are in neither sum; a row of unknown
    cells only has the loss 0 and does not count in the mean.
    """
    known = ~torch.isnan(targets)
    held = known & (torch.nan_to_num(targets) > 0.5)
    zero = logits.new_zeros(len(logits), 1)
    away = torch.finfo(logits.dtype).min
    positive = torch.logsumexp(torch.cat([zero, torch.where(held, -logits, away)], 1), 1)
    negative = torch.logsumexp(torch.cat([zero, torch.where(known & ~held, logits, away)], 1), 1)
    return masked_mean(positive + negative, known.any(1))


def softmax_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one class of many, against cells [batch, classes] in {0, 1, NaN}.

    ``logits`` [batch, classes] are those of the softmax probabilities, log(p / (1 - p)), as
    :func:`stages.hazard.legacy9_network.softmax_logits` makes them, so that -log p is softplus(-logit). A row with
    several 1s belongs to the first of them, as the legacy hazard classifier's data were made; one without adds nothing.
    """
    held = torch.nan_to_num(targets) > 0.5
    first = held.float().argmax(1, keepdim=True)
    return masked_mean(torch.nn.functional.softplus(-logits.gather(1, first).squeeze(1)), held.any(1))
