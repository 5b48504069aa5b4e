"""The delegation router's network and its file: what it computes, what is refused; tests.bench.routers times it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cascade.errors import PolicyError
from cascade.policy import check_models, diff, load, parse
from cascade.routing.delegation import features
from cascade.routing.logits import logit
from cascade.routing.router import Signals
from tests.bench import routers
from tests.fakes import FakeStage
from tests.routing.networks import FEATURES, mends, random_network, route_table

HEAD = 'schema = 1\nname = "p"\n'
FILES = {"stage1": {"model.onnx": "0" * 64}}


def seen(unsafe: float = 0.2, violence: float = 0.1, sexual: float = 0.01, tokens: int = 30) -> Signals:
    return Signals(unsafe, {"violence": violence, "sexual": sexual, "hate": 0.5}, tokens=tokens)


def test_features_are_logits_and_doublings() -> None:
    x = features(seen(tokens=7), FEATURES)
    assert x == pytest.approx([logit(0.2), logit(0.1), logit(0.01), 3.0])


@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**7), st.integers(0, 50))
def test_it_computes_what_its_docstring_says(unsafe: float, violence: float, tokens: int, seed: int) -> None:
    file = random_network(seed)
    x = features(seen(unsafe, violence, tokens=tokens), FEATURES)
    standard = [min(4.0, max(-4.0, (v - m) / s)) for v, m, s in zip(x, file.mean, file.scale, strict=True)]
    units = [
        math.tanh(sum(w * v for w, v in zip(row, standard, strict=True)) + b)
        for row, b in zip(file.hidden, file.hidden_bias, strict=True)
    ]
    logits = [
        sum(w * u for w, u in zip(row, units, strict=True)) + b
        for row, b in zip(file.output, file.output_bias, strict=True)
    ]
    spoil, _, mend = (math.exp(z) / sum(map(math.exp, logits)) for z in logits)
    network = file.judge()
    assert network(seen(unsafe, violence, tokens=tokens)) == pytest.approx((1 + mend - spoil) / 2, abs=1e-9)
    assert network.worth(np.stack([x, x])) == pytest.approx(network(seen(unsafe, violence, tokens=tokens)))


def test_worth_follows_the_features_that_it_learned_from() -> None:
    network = mends(violence=1.0).judge()
    assert network(seen(violence=0.9)) > 0.9 > 0.5 > network(seen(violence=0.4)) > network(seen(violence=0.1))
    assert network(seen(violence=0.5)) == pytest.approx(0.5)


def test_a_policy_with_a_network_comes_back_as_it_went(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(HEAD + route_table(random_network(3)))
    policy = load(tmp_path / "p.toml")
    assert policy.route.delegation == random_network(3)
    assert policy.router is policy.router, "built once"
    assert parse(policy.toml) == policy
    assert parse(policy.toml).revision == policy.revision
    other = parse(HEAD + route_table(random_network(4)))
    assert other.revision != policy.revision
    assert "route.delegation.sha256" in {change.key for change in diff(policy, other)}


def test_a_copy_of_a_policy_builds_its_own_router() -> None:
    policy = parse(HEAD + route_table(mends(unsafe=1.0)))
    text = seen(unsafe=0.55)
    assert policy.router.route(text).escalate
    stricter = policy.model_copy(update={"route": policy.route.model_copy(update={"at": 0.99})})
    assert not stricter.router.route(text).escalate


def test_a_network_with_another_number_is_refused() -> None:
    toml = HEAD + route_table(random_network(1))
    assert parse(toml).route.kind == "delegation"
    with pytest.raises(PolicyError, match=r"route\.delegation: it is not the network that was fitted"):
        parse(toml.replace("mean = [-2.0,", "mean = [-2.1,"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"scale": [1.0, 1.0, 1.0]}, "does not fit the features", id="shape"),
        pytest.param({"hidden": [[0.0] * 4]}, "does not fit the features", id="units"),
        pytest.param({"output": [[0.0]] * 3}, "does not fit the hidden one", id="output"),
        pytest.param({"scale": [0.0, 1.0, 1.0, 1.0]}, "greater than 0", id="no scale"),
        pytest.param({"mean": [math.nan, 0.0, 0.0, 0.0]}, "finite number", id="NaN"),
        pytest.param({"features": ["unsafe", "a", "b", "c"]}, "unknown features: a, b, c", id="who"),
        pytest.param({"features": ["unsafe"] * 4}, "named twice", id="twice"),
        pytest.param({"features": [], "more": 1}, "at least 1 item", id="none"),
        pytest.param({"hidden_bias": [0.0] * 65}, "at most 64 items", id="too wide"),
    ],
)
def test_what_is_no_network_is_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        random_network(**changes)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_network_of_other_models_is_refused(stage: str) -> None:
    policy = parse(HEAD + route_table(random_network()))
    with pytest.raises(PolicyError, match=rf"route\.delegation\.{stage} is m@r, which is not the model"):
        check_models(policy, {stage: {"model.onnx": "0" * 64}})


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('[route]\nkind = "margin"', 'the table margins goes with kind = "margin"'),
        ("[route.margins]\nunsafe = 1.0", 'the table margins goes with kind = "margin"'),
        ('[route]\nkind = "margin"\n[route.margins]\nunsafe = 0.0', "greater than 0"),
        ('[route]\nkind = "margin"\n[route.margins]\nspam = 1.0', "margins.spam: no stage has such a label"),
        ('[route]\nkind = "delegation"', 'the table delegation goes with kind = "delegation"'),
        ("[route]\nescalate_flagged = false", "a band always escalates what is flagged"),
    ],
)
def test_a_kind_needs_what_is_its_own(toml: str, problem: str) -> None:
    with pytest.raises(PolicyError, match=problem):
        parse(HEAD + toml)


def test_the_bench_times_whole_decisions_of_each_kind() -> None:
    """How long they take is for `python -m tests.bench.routers` to tell, on a quiet machine."""
    kinds = routers.policies()
    assert {name: policy.route.kind for name, policy in kinds.items()} == {name: name for name in kinds}
    assert len(kinds) == 3
    found = routers.measure(FakeStage(window_words=40), rounds=1)
    assert found["share_of_stage1"].keys() == found["decision_us"].keys() == kinds.keys()
    told = routers.report(2e-3, {"band": 1e-6})
    assert told == {"stage1_us": 2000.0, "decision_us": {"band": 1.0}, "share_of_stage1": {"band": 0.0005}}
