"""Groups near-copies and splits by group, so that no copy of a training text is ever validated or calibrated on.

Near-copies are rows of equal fingerprint (NFKC, case, white space, punctuation), rows whose word 3-grams have a
MinHash similarity of at least 0.7 (Broder 1997; `datasketch`), translations of one another, told by their ids, and the
halves of a minimal pair.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

from cascade.evaluate.overlap import SIMILARITY, fingerprint, grams, units
from training.data.rows import Row

__all__ = ["PAIR", "fingerprint", "grams", "near_duplicate_groups", "split_of", "units"]

PERMUTATIONS = 64
PAIR = "pair="  # before the name of a minimal pair, in the labels of both halves
_PARALLEL = {"catqa.en": "catqa", "catqa.zh": "catqa", "catqa.vi": "catqa", "dna_arabic.ar": "dna_arabic"}


class _Unions:
    """Disjoint sets over row numbers."""

    def __init__(self, size: int) -> None:
        self.parent = list(range(size))

    def find(self, item: int) -> int:
        while self.parent[item] != item:
            self.parent[item] = self.parent[self.parent[item]]
            item = self.parent[item]
        return item

    def join(self, a: int, b: int) -> None:
        self.parent[self.find(a)] = self.find(b)


def near_duplicate_groups(rows: Sequence[Row]) -> list[str]:
    """A group name for each row, the same for near-copies and translations.

    The name depends on the group's smallest fingerprint, so that it does not change when other sets are added.
    """
    unions = _Unions(len(rows))
    seen: dict[str, int] = {}  # fingerprint or parallel id -> its first row
    prints = [fingerprint(row.text) for row in rows]
    lsh = MinHashLSH(threshold=SIMILARITY, num_perm=PERMUTATIONS)
    for number, (row, print_) in enumerate(zip(rows, prints, strict=True)):
        keys = [print_]
        if row.dataset in _PARALLEL:
            keys.append(f"{_PARALLEL[row.dataset]}#{re.split(r'[-_]', row.id)[-1]}")
        keys += [f"{row.dataset}#{label}" for label in row.labels if label.startswith(PAIR)]
        first = print_ not in seen
        for key in keys:
            unions.join(number, seen.setdefault(key, number))
        if first:
            sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
            sketch.update_batch(grams(row.text[:4000]))
            for other in lsh.query(sketch):
                unions.join(number, other)
            lsh.insert(number, sketch)
    smallest: dict[int, str] = {}
    for number, print_ in enumerate(prints):
        root = unions.find(number)
        smallest[root] = min(smallest.get(root, print_), print_)
    return [smallest[unions.find(number)] for number in range(len(rows))]


def split_of(group: str, shares: dict[str, float]) -> str:
    """The split that a group falls into, by its hash: a share of ``{"validation": 0.08}`` is drawn, the rest trains."""
    point, edge = int(hashlib.sha256(f"split:{group}".encode()).hexdigest()[:12], 16) / 16**12, 0.0
    for name, share in shares.items():
        edge += share
        if point < edge:
            return name
    return "train"
