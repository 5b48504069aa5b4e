"""Examples -> token ids -> batches of like length, as tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.data.mix import Example

POOL = 32  # batches that are sorted by length together


@dataclass(frozen=True)
class Batch:
    """Ids and mask [batch, tokens], binary targets and teachers' logits [batch], label targets [batch, labels].

    NaN is unknown.
    """

    input_ids: Tensor
    attention_mask: Tensor
    unsafe: Tensor
    teacher: Tensor
    labels: Tensor
    examples: list[Example]

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        ids, mask = self.input_ids.to(device), self.attention_mask.to(device)
        unsafe, teacher, labels = self.unsafe.to(device), self.teacher.to(device), self.labels.to(device)
        return Batch(ids, mask, unsafe, teacher, labels, self.examples)


def training_tokenizer(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    """A tokenizer, now cutting at ``max_tokens`` and not padding."""
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer


def to_batch(examples: Sequence[Example], tokenizer: Tokenizer, pad_id: int) -> Batch:
    """One padded batch."""
    # A decoder's tokenizer may give a text no token at all; one position there must be for it.
    encoded = [encoding.ids or [pad_id] for encoding in tokenizer.encode_batch([example.text for example in examples])]
    longest = max(len(ids) for ids in encoded)
    return Batch(
        torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids in encoded]),
        torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in encoded]),
        torch.tensor([example.unsafe for example in examples]),
        torch.tensor([example.teacher for example in examples]),
        torch.tensor([example.labels for example in examples]),
        list(examples),
    )


def pieces(examples: Iterator[Example], size: int, seed: int) -> Iterator[list[Example]]:
    """Batches of ``size``, not yet tokenized: a pool of draws is sorted by length, cut, and the pieces are shuffled."""
    rng = random.Random(seed)
    while pool := list(islice(examples, size * POOL)):
        pool.sort(key=lambda example: len(example.text))
        cut = [pool[i : i + size] for i in range(0, len(pool), size)]
        rng.shuffle(cut)
        yield from cut
