"""What a moderated generation may cost: about twice one check of the whole, in tokens that stage 1 scores.

A check of the whole text scores each token once and those where two windows overlap once more. A stream needs these
scores, too, and may spend about as much again on readings that the whole has no use for: ``FREE`` windows, and then 3
tokens for each 4 of the text, which is less than it takes to read all of it twice. So an answer is watched most closely
while it is short, as most that turn bad do so early. With the embedded stage 1, whose windows of 224 tokens share 32,
all of it comes to twice one check at some 2,000 tokens; shorter answers cost more than twice, but little in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from cascade.streaming.growing import CHARACTERS_PER_TOKEN
from cascade.text.joint import MAX_LENGTH, MIN_LATEST
from stages.stage import Stage

FREE = 3.9  # windows, and one more where there is a prompt: it is read once more, jointly with the answer
RATE = 0.75  # tokens for each token of prompt and answer
LONG = 2000  # tokens: an answer of this length costs at most twice one check, whatever it holds


@dataclass(frozen=True, slots=True)
class Windows:
    """How a stage cuts a text: the first window has ``size`` tokens of it, and each later one begins ``step`` later."""

    size: int
    step: int

    @classmethod
    def of(cls, stage: Stage) -> Windows:
        """Measures it on words of one token each."""
        words = 2 * stage.info.window_tokens
        encoding = stage.encode("a " * words)
        first, second = encoding.windows[:2]
        per_code_point = encoding.tokens / (2 * words)
        return cls(ceil(first.end * per_code_point), max(1, ceil(second.start * per_code_point)))

    def count(self, tokens: float) -> int:
        """How many windows cover so many tokens."""
        return 1 + max(0, ceil((tokens - self.size) / self.step))

    def next_end(self, tokens: float) -> int:
        """The first end of a window behind so many tokens."""
        return self.size if tokens < self.size else self.size + self.step * int((tokens - self.size) // self.step + 1)


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent on the answer to a prompt of so many tokens and code points, by a stage with such windows."""

    window: int
    prompt: int = 0
    prompt_length: int = 0

    def affords(self, tokens: float, *, spent: int, read: float, whole: float) -> bool:
        """Whether so many tokens more are within bounds.

        Args:
            tokens: that are wanted.
            spent: that the whole had no use for, so far.
            read: tokens of the answer, so far.
            whole: what a check of all of it costs, at least.
        """
        free = (FREE + bool(self.prompt)) * self.window
        return spent + tokens <= max(RATE * (self.prompt + read) + free, whole)

    def look(self, read: float) -> int:
        """What a look at the whole wastes when the answer has so many tokens: the windows that are not full yet."""
        joint_end = max(MIN_LATEST, MAX_LENGTH - self.prompt_length) / CHARACTERS_PER_TOKEN
        joint = self.prompt + read if self.prompt and read <= joint_end else 0
        return round(min(self.window, read) + min(self.window, joint))
