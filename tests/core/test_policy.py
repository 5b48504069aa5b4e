"""Policies: what is read, what is refused, and that a revision stands for what a policy does."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import NotFoundError, PolicyError
from cascade.policy import Change, Policy, PolicyStore, check_models, default_policy, diff, fingerprint, load, parse
from stages.taxonomy import HAZARD_SLUGS

HEAD = 'schema = 1\nname = "p"\n'


def test_the_default_policy_is_valid_and_fails_closed() -> None:
    policy = default_policy()
    assert policy.name == "default"
    assert (policy.stage1.on_error, policy.stage2.on_error) == ("block", "block")
    assert list(policy.hazards) == list(HAZARD_SLUGS)


def test_canonical_toml_says_everything_and_reads_back_the_same() -> None:
    policy = parse(HEAD + "[hazards.hate]\nthreshold = 1\n")
    written = tomllib.loads(policy.toml)
    assert list(written["hazards"]) == list(HAZARD_SLUGS)
    assert written["actions"] == {"safe": "ALLOW", "controversial": "REVIEW", "unsafe": "BLOCK"}
    assert parse(policy.toml) == policy
    assert parse(policy.toml).revision == policy.revision


def test_a_revision_does_not_depend_on_the_way_of_writing() -> None:
    brief = parse(HEAD)
    wordy = parse('# a comment\nname = "p"\nschema = 1\n[route]\nhigh = 0.970\nlow = 8e-2\n')
    assert brief.revision == wordy.revision
    assert len(brief.revision) == 16


def test_a_revision_is_known() -> None:
    """A change of the canonical form gives every policy a new revision: it must not happen by accident."""
    lines = parse(HEAD).toml.splitlines()
    assert lines[:7] == [
        "schema = 1",
        'name = "p"',
        "",
        "[stage1]",
        "unsafe_threshold = 0.62",
        'on_error = "block"',
        "",
    ]
    assert "[merge.stacker]" in lines
    actions = ["[actions]", 'safe = "ALLOW"', 'controversial = "REVIEW"', 'unsafe = "BLOCK"']
    assert lines[-7:] == [*actions, "", "[stream]", 'hold = "BLOCK"']


@given(st.floats(0.1, 0.6), st.floats(0.63, 1))
def test_every_change_changes_the_revision(low: float, high: float) -> None:
    policy = parse(f"{HEAD}[route]\nlow = {low!r}\nhigh = {high!r}\n")
    assert (policy.route.low, policy.route.high) == (low, high)
    assert parse(policy.toml) == policy
    assert (policy.revision == parse(HEAD).revision) == ((low, high) == (0.08, 0.97))


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("", "schema: Field required"),
        ("schema = 2\nname = 'p'", "schema: Input should be 1"),
        ("schema = 1\nname = 'a b'", "name: String should match"),
        ("schema = [", "no TOML"),
        (HEAD + "x = 1", "x: unknown key"),
        (HEAD + "[route]\nlo = 0.1", "route.lo: unknown key"),
        (HEAD + "[route]\nkind = 'oracle'", "route.kind: Input should be 'band', 'margin' or 'delegation'"),
        (HEAD + "[route]\nkind = 'margin'", 'route: the table margins goes with kind = "margin"'),
        (HEAD + "[route]\nlow = '0.1'", "route.low: Input should be a valid number"),
        (HEAD + "[route]\nlow = true", "route.low: Input should be a valid number"),
        (HEAD + "[route]\nhigh = nan", "route.high"),
        (HEAD + "[route]\nhigh = 1.5", "route.high: Input should be less than or equal to 1"),
        (HEAD + "[route]\nlow = 0.7", "route.low <= stage1.unsafe_threshold <= route.high"),
        (
            HEAD + "[stage1]\nunsafe_threshold = 0.99",
            "route.low <= stage1.unsafe_threshold <= route.high does not hold",
        ),
        (HEAD + "[stage1]\non_error = 'stage1_only'", "stage1.on_error"),
        (HEAD + "[merge]\ncontroversial_threshold = 0.9", "controversial_threshold is above stage2.unsafe_threshold"),
        (HEAD + "[merge.stacker]\nw1 = 0.0", "merge.stacker.w1: Input should be greater than 0"),
        (HEAD + "[merge.stacker]\nbias = inf", "merge.stacker.bias"),
        (HEAD + "[hazards.S4]\nthreshold = 0.1", "S4 is no hazard that a stage knows"),
        (HEAD + "[hazards.hate]\nescalate_at = 0.9", "hazards.hate.escalate_at is above its threshold"),
        (HEAD + "[hazards.hate]\naction = 'block'", "hazards.hate.action"),
        (HEAD + "[actions]\nsafe = 'BLOCK'", "actions do not grow"),
        (HEAD + "[models]\nstage1 = 'abc'", "models.stage1"),
    ],
)
def test_what_is_wrong_is_refused_and_named(toml: str, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(toml)
    assert any(problem in line for line in caught.value.problems), caught.value.problems


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        parse(HEAD + "x = 1\n[route]\nlow = 2\nhigh = 3\n[hazards.hate]\nlimit = 1\n")
    assert len(caught.value.problems) == 4


def test_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(HEAD)
    assert load(path) == parse(HEAD)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "policy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PolicyError, match="cannot be read"):
        load(path)


def test_diff_names_the_keys_that_differ_with_defaults_written_out() -> None:
    before = parse(HEAD)
    after = parse(HEAD + "[route]\nlow = 0.08\nhigh = 0.9\n[hazards.hate]\naction = 'BLOCK'\n")
    assert diff(before, after) == [Change("hazards.hate.action", None, "BLOCK"), Change("route.high", 0.97, 0.9)]
    assert diff(before, before) == []


def test_a_policy_knows_its_models() -> None:
    files = {"model.onnx": "1" * 64, "tokenizer.json": "2" * 64}
    digest = fingerprint(files)
    assert digest == fingerprint(dict(reversed(files.items())))
    policy = parse(f"{HEAD}[models]\nstage1 = '{digest}'\n")
    check_models(policy, {"stage1": files, "stage2": {}})
    with pytest.raises(PolicyError, match=r"models\.stage1"):
        check_models(policy, {"stage1": files | {"model.onnx": "3" * 64}})
    check_models(parse(HEAD), {"stage1": files})


def test_a_stage_that_is_left_out_on_purpose_is_not_checked() -> None:
    check_models(parse(f"{HEAD}[models]\nstage2 = '{'0' * 64}'\n"), {"stage1": {}})


def test_a_store_finds_policies_by_name() -> None:
    first, second = (parse(f'schema = 1\nname = "{name}"\n') for name in ("a", "b"))
    store = PolicyStore([first, second])
    assert store.get() is first
    assert store.get("b") is second
    assert store.names() == ("a", "b")
    with pytest.raises(NotFoundError):
        store.get("c")


def test_a_policy_cannot_be_changed() -> None:
    policy: Policy = parse(HEAD)
    with pytest.raises(ValueError, match="frozen"):
        policy.name = "q"  # type: ignore[misc]


def test_a_copy_with_other_values_has_a_revision_of_its_own():
    policy = default_policy()
    before = policy.revision, policy.toml
    other = policy.model_copy(update={"route": policy.route.model_copy(update={"audit_rate": 0.5})})
    assert other.revision != before[0]
    assert "audit_rate = 0.5" in other.toml
    assert (policy.revision, policy.toml) == before
