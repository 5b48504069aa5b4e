"""What a job will cost, before, and what it did cost, after. Prices are in dollars for a million tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from training.data.llm.client import LabellerError

BATCH = 0.5  # Message Batches cost half, cache reads and writes too
CACHE_WRITE, CACHE_READ = 1.25, 0.1  # of the price of input
BYTES_PER_TOKEN = 2.5  # of UTF-8, on the safe side: newer tokenizers make about 3 of English, of Chinese too
MILLION = 1e6


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens of input and output without the discount of batches; ``effort``: takes that key."""

    input: float
    output: float
    effort: bool = True


# As published in November 2026; a model that is not here needs --price.
PRICES = {
    "claude-haiku-5-5": Price(0.10, 0.50),  # for prompts up to 100,000 tokens
    "claude-sonnet-5-5": Price(2.0, 10.0),
    "claude-opus-5-5": Price(4.0, 20.0),
    "claude-haiku-4-5": Price(1.0, 5.0, effort=False),
    "claude-sonnet-4-6": Price(3.0, 15.0),
}


def price_of(model: str, stated: str | None = None) -> Price:
    """A model's price, from the table or as stated: "INPUT,OUTPUT".

    Raises:
        LabellerError: the table does not have the model and nothing is stated, or it is not two numbers.
    """
    if stated is not None:
        try:
            given_in, given_out = (float(part) for part in stated.split(","))
        except ValueError:
            raise LabellerError(f"{stated}: a price is INPUT,OUTPUT in dollars for a million tokens") from None
        return Price(given_in, given_out, effort=PRICES[model].effort if model in PRICES else True)
    if model not in PRICES:
        raise LabellerError(f"{model}: price unknown (known: {', '.join(PRICES)}); state it with --price INPUT,OUTPUT")
    return PRICES[model]


@dataclass(frozen=True)
class Usage:
    """Tokens, as the API counts them."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The sum."""
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_write + other.cache_write,
            self.cache_read + other.cache_read,
        )

    def dollars(self, price: Price) -> float:
        """What they cost in a batch."""
        input_tokens = self.input + CACHE_WRITE * self.cache_write + CACHE_READ * self.cache_read
        return BATCH * (input_tokens * price.input + self.output * price.output) / MILLION


@dataclass(frozen=True)
class Estimate:
    """Of a job: requests, tokens, and dollars; ``at_most`` if every answer is as long as it may be."""

    requests: int
    input_tokens: int
    output_tokens: int
    dollars: float
    at_most: float


def estimate(requests: Iterable[Mapping[str, Any]], price: Price, expected_output: int) -> Estimate:
    """Estimates requests to the Messages API from their sizes, without asking it; cache hits are not counted on."""
    number, sent, longest = 0, 0.0, 0
    for params in requests:
        number += 1
        sent += len(json.dumps(params, ensure_ascii=False).encode()) / BYTES_PER_TOKEN
        longest += int(params["max_tokens"])
    expected = Usage(round(sent), number * expected_output)
    return Estimate(
        number,
        expected.input,
        expected.output,
        expected.dollars(price),
        Usage(expected.input, longest).dollars(price),
    )
