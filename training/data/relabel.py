"""*rows* -> a judge for all, a second judge for a share -> *rows with labels of the taxonomy*, filtered.

A row is dropped if its judge gave no judgement or one below the confidence asked for, if the second judge disagrees on
safe or unsafe, or, where that is asked for, if the judge disagrees with the row's own label. Where the two judges name
different hazards (or categories) the row keeps its verdict and says nothing about hazards: unknown, not negative.
Agreement of two models, of one family above all, is consistency and no proof of correctness.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anthropic import Anthropic

from training.data.agreement import kappa
from training.data.constitution import Constitution
from training.data.imported_labels import CATEGORY
from training.data.llm.job import Job, Limits, Request
from training.data.llm.judge import EXPECTED_TOKENS, Judgement, judge_request, parse_judgement, policy_prompt
from training.data.llm.prices import Estimate, Price, Usage, estimate
from training.data.llm.state import OK, Reply
from training.data.rows import DataError, Row

NAME = "relabelled"


@dataclass(frozen=True)
class Judge:
    """A model and its price."""

    model: str
    price: Price


@dataclass(frozen=True)
class Plan:
    """How rows are judged and which judgements are kept."""

    first: Judge
    second: Judge
    share: float = 0.1
    confidence: float = 0.85
    keep_only_agreeing: bool = False


@dataclass
class Relabelled:
    """The kept rows with what was said of them, and the report."""

    rows: list[tuple[Row, dict[str, Any]]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    dollars: float = 0.0


class Relabelling:
    """Rows to be judged under a constitution, with the state of both judges' jobs in ``folder``."""

    def __init__(self, rows: Sequence[Row], constitution: Constitution, plan: Plan, folder: Path) -> None:
        """Makes the requests; nothing is sent yet.

        Raises:
            DataError: there is no row.
        """
        if not rows:
            raise DataError("no rows to judge")
        self.rows = {_key(row): row for row in rows}
        self.plan, self.folder = plan, folder
        system = policy_prompt(constitution)
        # By the key's hash: the share stays the same when rows are added, and does not depend on their order.
        asked_twice = [key for key in self.rows if int(key[:8], 16) < plan.share * 16**8]
        self.first = [self._request(plan.first, system, key) for key in self.rows]
        self.second = [self._request(plan.second, system, key) for key in asked_twice]

    def _request(self, judge: Judge, system: str, key: str) -> Request:
        row = self.rows[key]
        return Request(key, judge_request(judge.model, judge.price, system, row.text, row.response))

    def estimates(self) -> list[tuple[str, Estimate]]:
        """What each judge will cost, by model."""
        return [
            (judge.model, estimate((request.params for request in requests), judge.price, EXPECTED_TOKENS))
            for judge, requests in ((self.plan.first, self.first), (self.plan.second, self.second))
            if requests
        ]

    def run(
        self, client: Anthropic, on_progress: Callable[[str, int, int], None], limits: Limits | None = None
    ) -> Relabelled:
        """Judges, filters and reports.

        Raises:
            LabellerError: the API cannot be used; the next run goes on from there.
        """
        replies: list[Mapping[str, Reply]] = []
        result = Relabelled()
        stages = (("judge", self.plan.first, self.first), ("second judge", self.plan.second, self.second))
        for name, judge, requests in stages:
            if not requests:
                replies.append({})
                continue
            job = Job(client, self.folder / name.replace(" ", "-"), requests, limits)
            replies.append(job.run(lambda done, of, name=name: on_progress(name, done, of)))  # type: ignore[misc]
            used: Usage = job.usage()
            result.dollars += used.dollars(judge.price)
            result.report[f"{name} {judge.model}"] = {
                "dollars": round(used.dollars(judge.price), 4),
                "input_tokens": used.input + used.cache_write + used.cache_read,
                "output_tokens": used.output,
                **Counter(reply.outcome for reply in replies[-1].values()),
            }
        self._filter(replies[0], replies[1], result)
        return result

    def _filter(self, first: Mapping[str, Reply], second: Mapping[str, Reply], result: Relabelled) -> None:
        fates: Counter[str] = Counter()
        pairs: list[tuple[Judgement, Judgement]] = []
        for key, row in self.rows.items():
            said, also = _judgement(first.get(key)), _judgement(second.get(key))
            if said is not None and also is not None:
                pairs.append((said, also))
            fate = self._fate(row, said, also)
            fates[fate] += 1
            if said is not None and fate == "kept":
                fates["other than labelled before"] += row.unsafe is not None and bool(row.unsafe) != said.unsafe
                result.rows.append(self._relabelled(row, said, also))
        result.report["rows"] = dict(fates)
        result.report["agreement"] = agreement(pairs)

    def _fate(self, row: Row, said: Judgement | None, also: Judgement | None) -> str:
        if said is None:
            return "not judged"
        if said.confidence < self.plan.confidence:
            return "unsure"
        if also is not None and also.unsafe != said.unsafe:
            return "judges disagree"
        if self.plan.keep_only_agreeing and row.unsafe is not None and bool(row.unsafe) != said.unsafe:
            return "other than its label"
        return "kept"

    def _relabelled(self, row: Row, said: Judgement, also: Judgement | None) -> tuple[Row, dict[str, Any]]:
        hazards = said.hazards if also is None or also.hazards == said.hazards else ()
        categories = said.categories if also is None or also.categories == said.categories else ()
        labels = (*hazards, *(CATEGORY + name for name in categories))
        judges = [self.plan.first.model] + ([self.plan.second.model] if also is not None else [])
        judged = {"by": judges, "confidence": said.confidence, "was": row.unsafe, "from": row.dataset}
        return Row(row.id, NAME, row.text, int(said.unsafe), labels, row.lang, row.response), {"judged": judged}


def agreement(pairs: Sequence[tuple[Judgement, Judgement]]) -> dict[str, float | int]:
    """Of two judges: on safe or unsafe, raw and as Cohen's kappa, and on the hazards of what both call unsafe."""
    if not pairs:
        return {"rows": 0}
    total = len(pairs)
    same = sum(a.unsafe == b.unsafe for a, b in pairs) / total
    found: dict[str, float | int] = {"rows": total, "verdict": round(same, 4)}
    beyond_chance = kappa([(a.unsafe, b.unsafe) for a, b in pairs])
    if beyond_chance is not None:
        found["kappa"] = round(beyond_chance, 4)
    unsafe = [(a, b) for a, b in pairs if a.unsafe and b.unsafe]
    if unsafe:
        found["hazards"] = round(sum(a.hazards == b.hazards for a, b in unsafe) / len(unsafe), 4)
    return found


def _judgement(reply: Reply | None) -> Judgement | None:
    return parse_judgement(reply.text) if reply is not None and reply.outcome == OK else None


def _key(row: Row) -> str:
    return hashlib.sha256("\0".join((row.dataset, row.id, row.text, row.response or "")).encode()).hexdigest()[:40]
