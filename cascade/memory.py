"""Scores that are kept while a text grows: *windows* -> those not scored before -> batcher -> all *scores*.

Each check of a growing text cuts it into windows anew; all but the last few are the same as before and are not scored
again. What the latest check had no use for is forgotten, so that the memory holds one text's windows and no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cascade.batching import Batched, Batcher
from stages.stage import Window, WindowScores

Key = tuple[tuple[int, ...], str]


@dataclass(slots=True)
class _Kept:
    """One stage's scores: ``known`` from the checks before, ``used`` by the check that is under way."""

    known: dict[Key, WindowScores] = field(default_factory=dict)
    used: dict[Key, WindowScores] = field(default_factory=dict)
    scored: int = 0
    wasted: int = 0


class Memory:
    """What both stages said of the windows of one growing text, and how many tokens that took."""

    def __init__(self) -> None:
        self._kept: dict[Batcher, _Kept] = {}

    async def score(
        self,
        batcher: Batcher,
        windows: Sequence[Window],
        *,
        deadline: float | None,
        caller: str = "",
        bulk: bool = False,
    ) -> Batched:
        """As :meth:`Batcher.score`, but each window is scored once only."""
        kept = self._kept.setdefault(batcher, _Kept())
        keys = [(window.ids, window.adapter) for window in windows]
        fresh = {key: window for key, window in zip(keys, windows, strict=True) if key not in kept.known}
        batched = await batcher.score(list(fresh.values()), deadline=deadline, caller=caller, bulk=bulk)
        kept.scored += sum(map(len, fresh.values()))
        kept.known.update(zip(fresh, batched.scores, strict=True))
        scores = [kept.known[key] for key in keys]
        kept.used.update(zip(keys, scores, strict=True))
        return Batched(scores, batched.queue_ms, batched.infer_ms)

    def turn(self) -> None:
        """Ends a check: what a stage was asked in it is kept, the rest of that stage's windows is forgotten."""
        for kept in self._kept.values():
            if kept.used:
                kept.wasted += _tokens(kept.known.keys() - kept.used.keys())
                kept.known, kept.used = kept.used, {}

    def scored(self, batcher: Batcher) -> int:
        """Tokens that a stage scored so far."""
        return self._of(batcher).scored

    def wasted(self, batcher: Batcher) -> int:
        """Those of them whose windows are forgotten: a check of the whole text would not have scored them."""
        return self._of(batcher).wasted

    def kept(self, batcher: Batcher) -> int:
        """Tokens of the windows of the latest check: what that check costs without a memory."""
        return _tokens(self._of(batcher).known)

    def _of(self, batcher: Batcher) -> _Kept:
        return self._kept.get(batcher) or _Kept()


def _tokens(keys: Iterable[Key]) -> int:
    return sum(len(ids) for ids, _ in keys)
