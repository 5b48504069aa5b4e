"""The decisions over arrays are those of the pipeline, row by row."""

from __future__ import annotations

import asyncio
import random

import pytest

from cascade.content import check_request
from cascade.evaluate.rows import Row
from cascade.policy import Policy
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.sample import sample
from cascade.tune.scoring import score_rows
from cascade.v1.check_pb2 import CheckResponse, Verdict
from stages.taxonomy import HAZARD_INDEX, HAZARD_SLUGS
from tests.fakes import FakeStage, fake_pipeline, fake_policy

FIRST = {"bad": 1.0, "unsure": -1.0, "terrible": 5.0, "odd": -2.5}
SECOND = {"bad": -2.0, "unsure": 2.0, "terrible": 4.0, "hidden": 3.0}
PIECES = [*FIRST, *SECOND, "hate", "privacy", "violence", "sexual", "child_exploitation", "слово", "calm", "calm"]

POLICIES = {
    "band": "[route]\nlow = 0.2\naudit_rate = 0.0",
    "noisy_or": '[route]\nlow = 0.05\naudit_rate = 0.0\n[merge]\nrule = "noisy_or"',
    "sensitive": "[hazards.child_exploitation]\nthreshold = 0.9\nescalate_at = 0.2\naction = 'BLOCK'",
    "blocking": "[hazards.hate]\naction = 'BLOCK'\n[stage2]\nunsafe_threshold = 0.97",
    "reviewing": "[hazards.hate]\naction = 'REVIEW'\n[merge]\nrule = 'stacker'\nmode = 'loose'",
}


def texts(count: int) -> list[str]:
    chooser = random.Random(3)
    return [" ".join(chooser.choices(PIECES, k=chooser.randint(1, 4))) + f" {n}" for n in range(count)]


async def both(policy: Policy, rows: list[Row], first: FakeStage) -> tuple[list[CheckResponse], object]:
    pipeline = fake_pipeline(first, FakeStage("hazard", words=SECOND), policies=[policy])
    try:
        answers = [await pipeline.check(check_request(row.text)) for row in rows]
        return answers, await score_rows(rows, pipeline, in_flight=4)
    finally:
        await pipeline.close()


@pytest.mark.parametrize("kind", ["tinysafe", "hazard"])
@pytest.mark.parametrize("name", POLICIES)
def test_the_same_is_escalated_unsafe_and_flagged(name: str, kind: str) -> None:
    policy = fake_policy(POLICIES[name])
    rows = [Row(str(n), text, None, n % 2 == 0, (), "en") for n, text in enumerate(texts(120))]
    answers, scored = asyncio.run(both(policy, rows, FakeStage(kind, words=FIRST)))
    done = outcomes(sample(scored, policy, seed=0), Rules.of(policy))
    assert done.escalated.tolist() == [answer.route.escalated for answer in answers]
    assert done.unsafe.tolist() == [answer.verdict == Verdict.VERDICT_UNSAFE for answer in answers]
    for slug, at in HAZARD_INDEX.items():
        assert done.flagged[:, at].tolist() == [answer.hazards[at].flagged for answer in answers], slug
    assert 0 < done.escalated.sum() < len(rows)
    assert 0 < done.unsafe.sum() < len(rows)
    assert done.flagged.any()


def test_a_row_keeps_its_labels_and_not_its_text() -> None:
    rows = [Row("a", "hidden privacy secret", None, True, ("privacy",), "en"), Row("b", "calm", None, None, (), "de")]
    _, scored = asyncio.run(both(fake_policy(), rows, FakeStage("tinysafe", words=FIRST)))
    assert [(row.id, row.unsafe, row.labels, row.lang) for row in scored] == [
        ("a", True, ("privacy",), "en"),
        ("b", None, (), "de"),
    ]
    assert scored[0].hazards.keys() == set(HAZARD_SLUGS)
    assert "secret" not in repr(scored)


def test_audited_rows_count_as_escalated() -> None:
    policy = fake_policy("[route]\naudit_rate = 0.25")
    rows = [Row(str(n), "a calm day at sea", None, None, (), "en") for n in range(400)]
    _, scored = asyncio.run(both(policy, rows, FakeStage("tinysafe", words=FIRST)))
    assert outcomes(sample(scored, policy, seed=1), Rules.of(policy)).escalated.mean() == pytest.approx(0.25, abs=0.07)
