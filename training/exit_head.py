"""Hidden states of an early layer -> is the rest of the network needed, and what would it say?

The head of an early exit (Xin et al. 2020, DeeBERT; Liu et al. 2020, FastBERT) on a network that stays as it is: it is
fitted to what the last layer says of the same windows, so that it needs no labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

QUERIES, VALUES, PEAKS, HIDDEN = 8, 64, 64, 128
MASKED = -1e4  # the attention of what is padding, before the softmax
EPOCHS, BATCH, RATE, DECAY = 6, 128, 1.5e-3, 0.01
SCORE_WEIGHT, LABEL_WEIGHT = 0.3, 0.1  # of what it would say, beside whether it is needed


@dataclass(frozen=True)
class States:
    """Windows as an early layer sees them, and what the last one says of them.

    Attributes:
        hidden: float16 states of all tokens of all windows, [tokens, width].
        ends: where in it each window ends, [windows].
        logits: raw logits of the last layer: unsafe, then the labels, [windows, 1 + labels].
        needed: 1 where the rest of the network has to run, [windows].
        weights: how much each window counts, [windows].
    """

    hidden: NDArray[np.float16]
    ends: NDArray[np.int64]
    logits: NDArray[np.float32]
    needed: NDArray[np.float32]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ends)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Padded states [batch, tokens, width] and their mask [batch, tokens]."""
        starts = np.concatenate([[0], self.ends[:-1]])
        lengths = (self.ends - starts)[rows]
        states = np.zeros((len(rows), int(lengths.max()), self.hidden.shape[1]), np.float32)
        for i, row in enumerate(rows):
            states[i, : lengths[i]] = self.hidden[starts[row] : self.ends[row]]
        return torch.from_numpy(states), torch.arange(states.shape[1]) < torch.from_numpy(lengths)[:, None]

    def in_batches(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Rows in batches of like lengths."""
        lengths = np.diff(self.ends, prepend=0)
        ordered = rows[np.argsort(lengths[rows], kind="stable")]
        return iter(np.array_split(ordered, -(-len(ordered) // BATCH)))


class ExitHead(nn.Module):
    """States [batch, tokens, width], mask [batch, tokens] -> [batch, 2 + labels]: needed, unsafe, labels, all logits.

    Some attention poolings, the largest value of some projections, and the first token, through one hidden layer.
    """

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, QUERIES + VALUES + PEAKS)
        self.mix = nn.Linear(QUERIES * VALUES + PEAKS + width, HIDDEN)
        self.say = nn.Linear(HIDDEN, 2 + labels)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        queries, values, peaks = self.read(states).split([QUERIES, VALUES, PEAKS], dim=-1)
        there = mask[..., None].to(states.dtype)
        attention = torch.where(there > 0, queries, MASKED).softmax(1)
        pooled = (attention.transpose(1, 2) @ values).flatten(1)
        largest = (peaks.relu() * there).amax(1)
        mixed = self.mix(torch.cat([pooled, largest, states[:, 0]], 1)).relu()
        said: Tensor = self.say(mixed)
        return said


def fit_exit(states: States, seed: int, epochs: int = EPOCHS) -> ExitHead:
    """The head fitted to windows, drawn by their weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = ExitHead(states.hidden.shape[1], states.logits.shape[1] - 1)
    optimiser = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    steps = epochs * -(-len(states) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    needed, logits = torch.from_numpy(states.needed), torch.from_numpy(states.logits)
    for _ in range(epochs):
        drawn = rng.choice(len(states), len(states), p=states.weights / states.weights.sum())
        batches = list(states.in_batches(drawn))
        for number in rng.permutation(len(batches)):
            rows = batches[number]
            said, taught = head(*states.batch(rows)), torch.from_numpy(rows)
            loss = binary_cross_entropy_with_logits(said[:, 0], needed[taught])
            loss = loss + SCORE_WEIGHT * smooth_l1_loss(said[:, 1], logits[taught, 0])
            loss = loss + LABEL_WEIGHT * smooth_l1_loss(said[:, 2:], logits[taught, 1:])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
    return head.eval()


def say(head: ExitHead, states: States) -> NDArray[np.float32]:
    """What a head says of all windows, [windows, 2 + labels]."""
    found = np.zeros((len(states), states.logits.shape[1] + 1), np.float32)
    with torch.inference_mode():
        for rows in states.in_batches(np.arange(len(states))):
            found[rows] = head(*states.batch(rows)).numpy()
    return found
