"""Certificates on many draws of the same scores: what is counted, and that the count can rise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bench import certificates as bench
from cascade.bench.certificates import Scores, measure, read, unbound
from cascade.errors import PolicyError
from cascade.evaluate.rows import DataError
from cascade.policy import Policy, parse
from cascade.tune.fit import Request, Tuned, fit
from cascade.tune.outcomes import Rules, outcomes
from cascade.tune.routing import with_kind
from cascade.tune.sample import sample
from cascade.tune.scores import write_cache
from cascade.tune.wishes import Wish
from tests.routing.networks import random_network, route_table
from tests.tools.conftest import Done, cascade, in_process  # noqa: F401 - the fixture
from tests.tune.samples import MODEL, MODELS, policy, scored

WISHES = (Wish("escalation", 0.4), Wish("false_positive", 0.08))
COMMAND = [sys.executable, "-m", "cascade.cli"]
ASKED = ["--max-escalation", "0.4", "--max-false-positive", "0.08", "--delta", "0.1", "--draws", 3, "--rows", 400]


def scores(count: int = 600) -> Scores:
    return Scores(scored(count, seed=5), "4" * 64, MODELS, "length_calibrated")


def delegating() -> Policy:
    """A policy with a network on the labels that the rows have, fitted on the models of the scores."""
    found = random_network(
        features=["unsafe", "illegal_activity", "tokens"], mean=[0.0] * 3, scale=[1.0] * 3, hidden=[[1.0, 0.5, 0.0]],
        hidden_bias=[0.0], output=[[-1.0], [0.0], [1.0]], **MODELS,
    )  # fmt: skip
    return parse('schema = 1\nname = "base"\n' + route_table(found))


def header(**changes: Any) -> dict[str, Any]:
    """The first line of a file of scores."""
    models = {"stage1": "m@r", "stage2": "m@r"}
    files = {name: model.files for name, model in MODELS.items()}
    calibrations = {name: model.calibration for name, model in MODELS.items()}
    pooled = {"segments": "length_calibrated"}
    return {"data": "4" * 64, "models": models, "files": files, "calibrations": calibrations, **pooled, **changes}


def counted(monkeypatch: pytest.MonkeyPatch, tune: Callable[..., Tuned], wishes: tuple[Wish, ...]) -> dict[str, Any]:
    monkeypatch.setattr(bench, "fit", tune)
    return measure(scores(), wishes, policy(), delta=0.1, draws=4, rows=300)


def test_a_promise_is_broken_where_its_share_of_all_texts_is_above_the_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four draws get rules that escalate nearly everything, whatever they promised."""
    made: list[Tuned] = []

    def tune(rows: Any, request: Request) -> Tuned:
        tuned = fit(rows, request)
        assert tuned.policy is not None
        if len(made) % 2:
            route = tuned.policy.route.model_copy(update={"low": 0.001})
            loose = tuned.policy.model_copy(update={"route": route, "certificate": None})
            tuned = replace(tuned, policy=loose)
        made.append(tuned)
        return tuned

    found = counted(monkeypatch, tune, WISHES)
    assert (found["certified"], found["too_few_rows"]) == (4, 0)
    told = found["promises"]["escalation"]
    assert (told["broken"], told["share"]) == (2, 0.5)
    assert told["largest"] > 0.9
    assert told["low"] < 0.5 < told["high"]
    assert told["p_value"] == pytest.approx(1 - 0.9**4 - 4 * 0.1 * 0.9**3)
    assert found["any"]["broken"] >= 2
    everything = sample(scores().rows, policy(), seed=0)
    shares = [
        outcomes(everything, Rules.of(tuned.policy)).escalated.mean() for tuned in made if tuned.policy is not None
    ]
    assert told["mean"] == pytest.approx(np.mean(shares))


def test_draws_without_a_policy_break_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(monkeypatch, fit, (Wish("escalation", 0.05), Wish("missed_unsafe", 0.05)))
    assert found["certified"] == 0
    assert found["any"]["broken"] == 0
    assert found["promises"]["escalation"]["mean"] is None


def test_what_is_audited_counts_by_its_chance() -> None:
    """Half of everything is audited: a band that takes in hardly anything still escalates half."""
    base = parse(policy().toml.replace("audit_rate = 0.0", "audit_rate = 0.5"))
    found = measure(scores(), (Wish("escalation", 0.9),), base, delta=0.1, draws=1, rows=400)
    assert 0.5 < found["promises"]["escalation"]["mean"] < 0.9


@pytest.mark.parametrize("kind", ["margin", "delegation"])
def test_every_kind_of_router(kind: str) -> None:
    whole = scores(400)
    base = unbound(delegating() if kind == "delegation" else with_kind(policy(), "margin"), whole)
    found = measure(whole, (Wish("escalation", 0.8),), base, delta=0.2, draws=2, rows=300)
    assert found["certified"] == 2
    assert found["any"]["broken"] == 0


def test_draws_that_are_too_small_are_told_with_the_rows_that_it_takes() -> None:
    with pytest.raises(DataError, match=r"in none of the draws of 40 rows: too few rows: .* needs at least 149"):
        measure(scores(), (Wish("missed_unsafe", 0.02),), policy(), delta=0.05, draws=2, rows=40)


def test_a_policy_that_does_not_fit_the_scores_is_refused() -> None:
    with pytest.raises(PolicyError, match="not fitted on the models of these scores"):
        unbound(delegating(), replace(scores(), models=MODELS | {"stage2": MODEL}))
    with pytest.raises(DataError, match=r"merge\.segments is max"):
        unbound(parse(policy().toml.replace('"length_calibrated"', '"max"')), scores())


def test_the_real_command_on_a_file_of_scores(tmp_path: Path) -> None:
    write_cache(tmp_path / "s.jsonl", header(), scored(500, seed=5))
    base = policy().toml
    (tmp_path / "p.toml").write_text(base)
    more = ["--policy", "p.toml", "--out", "r.json"]
    done = in_process(COMMAND, "bench", "certificates", "s.jsonl", *ASKED, *more, folder=tmp_path)
    assert done.code == 0, done.err
    assert "any of them" in done.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["texts"], report["draws"], report["rows"], report["certified"]) == (500, 3, 400, 3)
    assert report["models"] == {"stage1": "m@r", "stage2": "m@r"}
    assert report["any"]["low"] <= report["any"]["share"] <= report["any"]["high"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "a", "unsafe": 1}\n', "no scores of two stages"),
        ("", "no scores of two stages"),
        (json.dumps({"scored": header(files={})}) + "\n", "does not say what was scored by which models"),
        (json.dumps({"scored": header(models=[])}) + "\n", "does not say what was scored by which models"),
        (json.dumps({"scored": header(models={"stage1": "m@r"})}) + "\n", "no scores of two stages"),
        (json.dumps({"scored": header()}) + "\n", "has no rows"),
        (json.dumps({"scored": header()}) + '\n{"unsafe": 1, "stage1": NaN}\n', "s.jsonl:2: the score of stage1"),
    ],
)
def test_what_is_no_file_of_scores(
    cascade: Callable[..., Done],  # noqa: F811 - the fixture
    tmp_path: Path,
    content: str,
    message: str,
) -> None:
    (tmp_path / "s.jsonl").write_text(content)
    done = cascade("bench", "certificates", "s.jsonl", *ASKED)
    assert done.code == 1
    assert message in done.err
    assert done.err.count("\n") == 1


def test_scores_that_the_command_wrote_are_read(tmp_path: Path) -> None:
    rows = scored(20, seed=1)
    write_cache(tmp_path / "s.jsonl", header(), rows)
    found = read(tmp_path / "s.jsonl")
    assert found.rows == rows
    assert found.models == MODELS
    assert found.segments == "length_calibrated"
