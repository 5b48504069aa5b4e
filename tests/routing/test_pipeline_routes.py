"""Each kind of router through the pipeline, and the hazards that are never left to one stage."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from cascade.content import check_request
from cascade.policy import Policy, parse
from cascade.policy import routers as routers_module
from cascade.routing.router import Signals
from cascade.v1.check_pb2 import CheckResponse, RouteReason, Verdict
from stages.registry import load_stage
from stages.taxonomy import TINYSAFE_CATEGORIES
from tests.fakes import LABEL_ON, FakeStage, fake_pipeline, fake_policy
from tests.routing.networks import mends, random_network, route_table

MARGIN = "[route]\nkind = 'margin'\naudit_rate = 0.0\n{}\n[route.margins]\nunsafe = 2.0\nviolence = {}\n"


def answers(policy: Policy, *texts: str) -> list[CheckResponse]:
    async def ask() -> list[CheckResponse]:
        pipeline = fake_pipeline(stage2=FakeStage("hazard", words={"bad": 3.0}), policies=[policy])
        found = [await pipeline.check(check_request(f"{text} as on other days")) for text in texts]  # not very short
        await pipeline.close()
        return found

    return asyncio.run(ask())


def routes(found: list[CheckResponse]) -> list[str]:
    return [RouteReason.Name(answer.route.reason)[13:] for answer in found]


def test_a_margin_router_escalates_what_stage_1_is_torn_about_by_verdict_or_category() -> None:
    texts = ["a calm day", "unsure", "violence", "terrible"]
    assert routes(answers(fake_policy(MARGIN.format("", 1.0)), *texts)) == ["PASSED", "UNCERTAIN", "PASSED", "FLAGGED"]
    wide = fake_policy(MARGIN.format("", LABEL_ON + 0.1))
    assert routes(answers(wide, *texts)) == ["PASSED", "UNCERTAIN", "UNCERTAIN", "FLAGGED"]


def test_flags_that_are_left_to_the_router_stand_as_stage_1_said_them() -> None:
    policy = fake_policy(MARGIN.format("escalate_flagged = false", 1.0))
    sure, torn = answers(policy, "terrible", "bad")
    assert routes([sure, torn]) == ["PASSED", "UNCERTAIN"]
    assert (sure.verdict, sure.merge_rule, len(sure.stages)) == (Verdict.VERDICT_UNSAFE, "stage1", 1)
    assert (torn.verdict, len(torn.stages)) == (Verdict.VERDICT_UNSAFE, 2)


def test_a_delegation_router_escalates_what_its_network_expects_stage_2_to_mend(tmp_path: Path) -> None:
    table = route_table(mends(violence=1.0))
    policy = parse(fake_policy().toml.split("[route]")[0] + table)
    assert routes(answers(policy, "a calm day", "violence", "terrible")) == ["PASSED", "UNCERTAIN", "FLAGGED"]


def test_a_router_is_built_once_for_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    real = routers_module.worth_of
    monkeypatch.setattr(routers_module, "worth_of", lambda policy: built.append(policy.name) or real(policy))
    assert len(answers(fake_policy(name="once"), *(f"text {number}" for number in range(5)))) == 5
    assert built == ["once"]


@pytest.mark.parametrize(
    ("hazard", "category"),
    [("child_exploitation", "sexual"), ("indiscriminate_weapons", "dangerous_info"),
     ("indiscriminate_weapons", "violence")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["band", "margin", "delegation"])
def test_a_hazard_that_is_never_left_to_one_stage_goes_on_under_every_kind(
    kind: str, hazard: str, category: str, tmp_path: Path
) -> None:
    """Stage 1 says safe and the router would let it pass; stage 2 is asked all the same, and its word blocks."""
    rule = f"[hazards.{hazard}]\nthreshold = 0.5\nescalate_at = 0.1\naction = 'BLOCK'\n"
    table = {
        "band": "[route]\naudit_rate = 0.0\n",
        "margin": MARGIN.format("", 0.1),
        "delegation": route_table(mends(unsafe=1.0)),
    }[kind]
    policy = parse(f'schema = 1\nname = "p"\n{table}\n{rule}')
    calm, near, named = answers(policy, "a calm day", category, f"{category} {hazard}")
    assert routes([calm, near]) == ["PASSED", "SENSITIVE_HAZARD"]
    assert near.route.escalated
    assert named.route.escalated
    assert (near.verdict, named.verdict) == (Verdict.VERDICT_SAFE, Verdict.VERDICT_UNSAFE)
    assert named.override_rule == f"hazards.{hazard}"
    without = policy.model_copy(update={"hazards": fake_policy().hazards})
    assert routes(answers(without, category)) == ["PASSED"]


def test_a_router_costs_less_than_a_twentieth_of_stage_1(tmp_path: Path) -> None:
    """The largest network that the fit makes, against the embedded stage 1 on a short text."""
    names = ["unsafe", *TINYSAFE_CATEGORIES, "tokens"]
    wide = len(names)
    file = random_network(units=24, features=names, mean=[0.0] * wide, scale=[1.0] * wide, hidden=[[0.1] * wide] * 24)
    table = route_table(file)
    router = parse(f'schema = 1\nname = "p"\n{table}').router
    seen = Signals(0.05, dict.fromkeys(TINYSAFE_CATEGORIES, 0.02), tokens=32)
    stage = load_stage("tinysafe")
    windows = stage.encode("How do I bake a loaf of rye bread at home without a tin?").windows
    assert best(lambda: router.route(seen)) < 0.05 * best(lambda: stage.score(windows))


def best(work) -> float:
    """Seconds of CPU of the fastest of many runs: what a busy machine changes least."""
    times = []
    for _ in range(60):
        started = time.process_time_ns()
        work()
        times.append(time.process_time_ns() - started)
    return min(times) / 1e9
