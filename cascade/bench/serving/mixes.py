r"""Length mixes of real traffic, as quantiles and nothing else: *mix* -> lengths in tokens.

``mixes.json`` beside this file holds the mixes that ship. It was made, from sets that are no part of the repository, by

    cascade bench mix chat=toxicchat.train.jsonl.gz guard=guardreasoner_trainsplit_5k.jsonl.gz \
        comments=civilcomments_toxicspans_raw.jsonl.gz long=arena_hard_v2.0.jsonl.gz \
        --out cascade/bench/serving/mixes.json

Tokens are those of the embedded stage 1, without special ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from cascade.errors import CascadeError
from cascade.evaluate.rows import open_text

SHARES = (*(round(step / 100, 2) for step in range(100)), 0.995, 1.0)  # of the texts that are no longer
CHAT = "chat"


class MixError(CascadeError):
    """A length mix is unknown or cannot be read."""

    reason = "MIX_UNUSABLE"


@dataclass(frozen=True, slots=True)
class Mix:
    """How long texts are. ``tokens`` are the quantiles at ``SHARES``; ``source`` says where the ``texts`` came from."""

    source: str
    texts: int
    mean: float
    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuses what is no distribution.

        Raises:
            MixError: the quantiles are too few, fall, or are not positive.
        """
        if len(self.tokens) != len(SHARES) or min(self.tokens) < 1 or sorted(self.tokens) != list(self.tokens):
            raise MixError(f"{self.source}: {len(SHARES)} quantiles are wanted, positive and ascending")

    def lengths(self, count: int) -> list[int]:
        """So many lengths, ascending, spread as evenly over the mix as can be: no luck in what is drawn."""
        shares = (np.arange(count) + 0.5) / count
        return [max(1, round(length)) for length in np.interp(shares, SHARES, self.tokens)]


def mix_of(source: str, lengths: Iterable[int]) -> Mix:
    """The mix of texts of these lengths; empty ones do not count.

    Raises:
        MixError: there is no text.
    """
    found = [length for length in lengths if length]
    if not found:
        raise MixError(f"{source}: no text")
    quantiles = np.quantile(found, SHARES, method="nearest")
    return Mix(source, len(found), round(float(np.mean(found)), 1), tuple(map(int, quantiles)))


def read_texts(path: Path) -> Iterator[str]:
    """The key ``text`` of each line of a file, *.jsonl or *.jsonl.gz.

    Raises:
        MixError: the file cannot be read, or a line has no such key; the message does not quote it.
    """
    try:
        with open_text(path) as lines:
            for line in filter(str.strip, lines):
                yield str(json.loads(line)["text"])
    except OSError as error:
        raise MixError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except (EOFError, ValueError, TypeError, KeyError):
        raise MixError(f"{path}: a line is no JSON object with the key text") from None


def load_mixes(path: Path | None = None) -> dict[str, Mix]:
    """The mixes of a file by name; those that ship where there is no file.

    Raises:
        MixError: the file cannot be read, or holds something else.
    """
    own = resources.files("cascade.bench.serving") / "mixes.json"
    try:
        table = json.loads((path or own).read_text(encoding="utf-8"))
        return {name: Mix(**{**mix, "tokens": tuple(mix["tokens"])}) for name, mix in table.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise MixError(f"{path}: no table of length mixes ({error})") from error


def to_json(mixes: dict[str, Mix]) -> str:
    """The file that :func:`load_mixes` reads, a line a mix."""
    lines = (f" {json.dumps(name)}: {json.dumps(asdict(mix))}" for name, mix in mixes.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
