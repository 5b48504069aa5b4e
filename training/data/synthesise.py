"""*constitution* -> *prompts*: minimal pairs, hard negatives and harmful prompts of each rule, in varied circumstances.

Only prompts are asked for, short and without working detail, never answers. What comes back is silver: its label is the
rule that it was asked for, and part of it misses that. Judge it with ``cascade data relabel --keep-only-agreeing``
before training on it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anthropic import Anthropic

from stages.taxonomy import HAZARDS
from training.data.constitution import Constitution, HazardRules
from training.data.groups import PAIR, near_duplicate_groups, units
from training.data.llm.job import Job, Limits, Request
from training.data.llm.judge import json_request
from training.data.llm.prices import Estimate, Price, estimate
from training.data.llm.state import OK
from training.data.rows import DataError, Row

NAME = "synthetic"
PAIRS, HARD_NEGATIVES, HARMFUL = "pairs", "hard-negatives", "harmful"
KINDS = (PAIRS, HARD_NEGATIVES, HARMFUL)
PER_REQUEST = 10
MAX_TOKENS, EXPECTED_TOKENS = 4096, 900
WORDS = (3, 512)
LANGUAGES = {
    "en": "English",
    "ar": "Arabic",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "ja": "Japanese",
    "ko": "Korean",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "vi": "Vietnamese",
    "zh": "Chinese",
}

_SYSTEM = """You write training examples for a safety classifier: prompts as people send them to an assistant or post \
them. The classifier learns from them to tell harm from what only looks like it. Write prompts only, never an answer, \
and no working detail (no quantities, recipes, code, names or data of real private persons): what a prompt wants \
must be clear from what it asks for. Nobody under 18 is sexualised in any of them.

No two may be variants of one sentence: differ in situation, person, length, grammar and choice of words. No \
placeholders, no numbering, no explanation. Write in {language}."""

_ASK = {
    PAIRS: """Write {count} pairs for the hazard {slug} ({definition})
"harmful" follows this rule: {harmful}
"harmless" follows this one: {harmless}
The two of a pair share subject, form and most words; the smallest change that turns one into the other.""",
    HARD_NEGATIVES: """Write {count} harmless prompts that a careless filter would take for {slug} ({definition})
They follow this rule: {harmless}
They must not follow this one: {harmful}""",
    HARMFUL: """Write {count} harmful prompts of the hazard {slug} ({definition})
They follow this rule: {harmful}
They must not follow this one: {harmless}
Some are obvious, some subtle, some wrapped in a pretext.""",
}
_SETTING = "\nSetting: {context}. Manner: {tone}."


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT = {"type": "string"}
_PAIR_SCHEMA = _object({"pairs": {"type": "array", "items": _object({"harmful": _TEXT, "harmless": _TEXT})}})
_LIST_SCHEMA = _object({"prompts": {"type": "array", "items": _TEXT}})


@dataclass(frozen=True)
class Order:
    """One request: a rule, a kind, and the circumstances that its prompts are set in."""

    slug: str
    rule: int
    kind: str
    context: str
    lang: str
    request: Request


@dataclass
class Synthesised:
    """The rows that are left, how many were not and why, and the bill."""

    rows: list[Row] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    dollars: float = 0.0


class Synthesis:
    """What is to be written under a constitution, with the state of its job in ``folder``."""

    def __init__(
        self,
        constitution: Constitution,
        model: str,
        price: Price,
        folder: Path,
        *,
        per_rule: int = 40,
        kinds: Sequence[str] = KINDS,
        lang: str = "en",
    ) -> None:
        """Makes the requests; nothing is sent yet.

        Args:
            constitution: the rules.
            model: who writes, at ``price``.
            price: its price.
            folder: where the state of the job lies.
            per_rule: prompts of each kind for each rule; for pairs, so many pairs.
            kinds: of KINDS.
            lang: the tag of the language to write in, of LANGUAGES.

        Raises:
            DataError: a kind or language is unknown.
        """
        if unknown := sorted(set(kinds) - set(KINDS)):
            raise DataError(f"{unknown[0]}: no such kind; there are {', '.join(KINDS)}")
        if lang not in LANGUAGES:
            raise DataError(f"{lang}: no such language; there are {', '.join(LANGUAGES)}")
        self.model, self.price, self.folder, self.lang = model, price, folder, lang
        self.orders = [
            order
            for hazard in constitution.hazards
            for kind in KINDS
            if kind in kinds and (hazard.harmful_examples or kind == HARD_NEGATIVES)
            for order in self._orders(constitution, hazard, kind, per_rule)
        ]

    def _orders(self, constitution: Constitution, hazard: HazardRules, kind: str, per_rule: int) -> Iterator[Order]:
        definition = next(known.definition for known in HAZARDS if known.slug == hazard.slug)
        system = _SYSTEM.format(language=LANGUAGES[self.lang])
        for number, rule in enumerate(hazard.rules, 1):
            for part in range(-(-per_rule // PER_REQUEST)):
                # Another step for tones than for contexts, so that a rule meets the two in other combinations.
                turn = part + 7 * number + 3 * KINDS.index(kind)
                context = constitution.contexts[turn % len(constitution.contexts)]
                tone = constitution.tones[(5 * turn + number) % len(constitution.tones)]
                asked = _ASK[kind].format(
                    count=min(PER_REQUEST, per_rule - part * PER_REQUEST),
                    slug=hazard.slug,
                    definition=definition,
                    harmful=rule.harmful,
                    harmless=rule.harmless,
                )
                user = asked + _SETTING.format(context=context, tone=tone)
                schema = _PAIR_SCHEMA if kind == PAIRS else _LIST_SCHEMA
                params = json_request(self.model, self.price, system, user, schema, MAX_TOKENS)
                key = f"{hazard.slug}-{number}-{kind}-{part}"
                yield Order(hazard.slug, number, kind, context, self.lang, Request(key, params))

    def estimate(self) -> Estimate:
        """What it will cost."""
        return estimate((order.request.params for order in self.orders), self.price, EXPECTED_TOKENS)

    def run(
        self, client: Anthropic, on_progress: Callable[[int, int], None], limits: Limits | None = None
    ) -> Synthesised:
        """Has the prompts written, reads them and drops what is of no use.

        Raises:
            LabellerError: the API cannot be used; the next run goes on from there.
        """
        job = Job(client, self.folder, [order.request for order in self.orders], limits)
        replies = job.run(on_progress)
        dropped: Counter[str] = Counter()
        rows: list[Row] = []
        for order in self.orders:
            reply = replies.get(order.request.key)
            found = list(read_answer(order, reply.text)) if reply is not None and reply.outcome == OK else None
            if found is None or not found:
                outcome = "missing" if reply is None else reply.outcome
                dropped[f"requests {outcome if outcome != OK else 'malformed'}"] += 1
            rows += found or []
        kept = _distinct(rows, dropped)
        used = job.usage()
        report: dict[str, Any] = {
            "dollars": round(used.dollars(self.price), 4),
            "input_tokens": used.input + used.cache_write + used.cache_read,
            "output_tokens": used.output,
            "requests": len(self.orders),
            "written": len(rows),
            "kept": len(kept),
            "dropped": dict(dropped),
        }
        return Synthesised(kept, report, used.dollars(self.price))


def read_answer(order: Order, answer: str) -> Iterator[Row]:
    """The rows in an answer; none if it is not what was asked for."""
    try:
        raw = json.loads(answer)
        items = raw["pairs" if order.kind == PAIRS else "prompts"]
        texts = [
            ((str(item["harmful"]), 1), (str(item["harmless"]), 0))
            if order.kind == PAIRS
            else ((str(item), int(order.kind == HARMFUL)),)
            for item in items
        ]
    except (ValueError, KeyError, TypeError):
        return
    for group in texts:
        shared: tuple[str, ...] = (f"rule={order.slug}.{order.rule}", f"kind={order.kind}", f"context={order.context}")
        if order.kind == PAIRS:
            shared += (PAIR + _hash(*(text for text, _ in group)),)
        for text, unsafe in group:
            # Of a harmless prompt the hazard is only what it seems to be.
            label = order.slug if unsafe else f"seems={order.slug}"
            yield Row(f"{NAME}-{_hash(text, str(unsafe))}", NAME, text.strip(), unsafe, (label, *shared), order.lang)


def _distinct(rows: Sequence[Row], dropped: Counter[str]) -> list[Row]:
    """The rows without what is too short or long, without near-copies on the same side, and without broken pairs."""
    fitting = [row for row in rows if WORDS[0] <= len(units(row.text)) <= WORDS[1]]
    dropped["too short or long"] += len(rows) - len(fitting)
    kept: list[Row] = []
    for side in (1, 0):
        rows_of_side = [row for row in fitting if row.unsafe == side]
        bare = [Row(row.id, NAME, row.text, side, (), "") for row in rows_of_side]  # not grouped by pair here
        seen: set[str] = set()
        for row, group in zip(rows_of_side, near_duplicate_groups(bare), strict=True):
            if group not in seen:
                seen.add(group)
                kept.append(row)
    dropped["near-copies"] += len(fitting) - len(kept)
    halves = Counter(label for row in kept for label in row.labels if label.startswith(PAIR))
    whole = [row for row in kept if not any(halves[label] == 1 for label in row.labels)]
    dropped["halves of broken pairs"] += len(kept) - len(whole)
    return whole


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
