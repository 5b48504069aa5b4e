"""Learning from teachers: whom they judge, what is kept of it, and what the loss makes of it."""

from __future__ import annotations

import json
import tomllib

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from stages.errors import ModelError
from stages.stage import Calibration, Platt
from tests.fakes import FakeStage
from training import teachers
from training.batches import Batch
from training.data.mix import Example, Splits
from training.data.rows import DataError
from training.objective import Objective
from training.recipe import Loss, Recipe
from training.teachers import TEACHERS, taught

NAN = float("nan")


def example(text, source="a", unsafe=0.0):
    return Example(text, source, source, "en", unsafe, ())


def recipe(distil="teachers = { one = 1.0, two = 3.0 }", licences="all"):
    text = f"""
name = "r"
system = "tinysafe"
base = "b"
[data]
licences = "{licences}"
[[data.sources]]
name = "a"
sets = ["a"]
[[data.sources]]
name = "b"
sets = ["b"]
[train]
draws = 200
learning_rate = 1e-3
[distil]
{distil}
"""
    return Recipe.model_validate(tomllib.loads(text))


@pytest.fixture
def tokenizer():
    words = {word: number for number, word in enumerate(["[UNK]", "calm", "kill", "bomb", "tree", "house"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(3)
    return made


class Asked:
    """The stages that are opened by name, and the texts that each was asked about."""

    def __init__(self, monkeypatch, **stages):
        self.opened, self.texts = [], {name: [] for name in stages}

        def load_stage(spec, **options):
            self.opened.append(spec)
            if spec not in stages:
                raise ModelError(f"{spec}: no such model")
            stage = stages[spec]
            encode = stage.encode

            def listening(text):
                self.texts[spec].append(text)
                return encode(text)

            stage.encode = listening
            return stage

        monkeypatch.setattr(teachers, "load_stage", load_stage)


def judge(word, logit, **options):
    return FakeStage("hazard", words={word: logit}, **options)


SPLITS = Splits(
    {"a": [example("calm tree"), example("kill"), example("calm calm calm bomb")], "b": [example("house", "b")]},
    [example("calm")],
    [],
    {},
)


def test_a_text_carries_the_weighted_mean_of_calibrated_logits_and_is_read_as_far_as_the_network_reads(
    tmp_path, tokenizer, monkeypatch
):
    doubled = Calibration(Platt(2.0, 0.0))
    asked = Asked(monkeypatch, one=judge("kill", 4.0), other=judge("kill", 1.0, calibration=doubled))
    found, named = taught(SPLITS, SPLITS.train, recipe(), tokenizer, {"two": "other"}, tmp_path)
    logits = {e.text: e.teacher for rows in found.train.values() for e in rows}
    assert logits["kill"] == pytest.approx((4.0 + 3 * 2.0) / 4)
    assert logits["calm tree"] < 0
    assert asked.opened == ["one", "other"]
    assert named == "0.25 of fake-hazard@r1, 0.75 of fake-hazard@r1"
    assert sorted(asked.texts["one"]) == ["calm calm calm", "calm tree", "house", "kill"]
    assert found.validation == SPLITS.validation


def test_only_the_named_sources_are_judged(tmp_path, tokenizer, monkeypatch):
    asked = Asked(monkeypatch, one=judge("kill", 4.0))
    distil = 'teachers = { one = 1.0 }\nsources = ["b"]'
    found, _ = taught(SPLITS, SPLITS.train, recipe(distil), tokenizer, {}, tmp_path)
    assert asked.texts["one"] == ["house"]
    assert all(e.teacher != e.teacher for e in found.train["a"])


def test_what_was_said_is_kept_without_texts_and_not_asked_again(tmp_path, tokenizer, monkeypatch):
    stages = {"one": judge("kill", 4.123456789), "two": judge("kill", 1.0)}
    Asked(monkeypatch, **stages)
    first = taught(SPLITS, SPLITS.train, recipe(), tokenizer, {}, tmp_path)
    kept = (tmp_path / TEACHERS).read_text()
    assert "calm" not in kept
    assert "kill" not in kept
    assert json.loads(kept.splitlines()[0]) == {"teachers": ["fake-hazard@r1", "fake-hazard@r1"]}

    again = Asked(monkeypatch)
    assert taught(SPLITS, SPLITS.train, recipe(), tokenizer, {}, tmp_path) == first
    assert again.opened == []

    (tmp_path / TEACHERS).write_text(kept[:-9])  # stopped in the middle of the last line
    asked = Asked(monkeypatch, **stages)
    taught(SPLITS, SPLITS.train, recipe(), tokenizer, {}, tmp_path)
    assert len(asked.texts["one"]) == 1
    assert sorted((tmp_path / TEACHERS).read_text().splitlines()) == sorted(kept.splitlines())


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "a"}'])
def test_a_damaged_file_of_what_was_said_is_named(tmp_path, tokenizer, monkeypatch, line):
    (tmp_path / TEACHERS).write_text(json.dumps({"teachers": ["fake-hazard@r1", "fake-hazard@r1"]}) + f"\n{line}\n")
    asked = Asked(monkeypatch)
    with pytest.raises(DataError, match=r"teachers\.jsonl: not what teachers said"):
        taught(SPLITS, SPLITS.train, recipe(), tokenizer, {}, tmp_path)
    assert asked.opened == []


def test_what_others_said_is_refused(tmp_path, tokenizer, monkeypatch):
    (tmp_path / TEACHERS).write_text(json.dumps({"teachers": ["someone@1", "fake-hazard@r1"]}) + "\n")
    Asked(monkeypatch, one=judge("kill", 4.0), two=judge("kill", 1.0))
    with pytest.raises(DataError, match="someone@1"):
        taught(SPLITS, SPLITS.train, recipe(), tokenizer, {}, tmp_path)


@pytest.mark.parametrize(
    ("stage", "models", "message"),
    [
        (judge("kill", 4.0, judges=False), {}, "does not judge"),
        (None, {}, "teacher one: one: no such model; name another with --teacher one=MODEL"),
        (judge("kill", 4.0), {"three": "x"}, "no teacher 'three', only one"),
    ],
)
def test_a_teacher_of_no_use_is_named(tmp_path, tokenizer, monkeypatch, stage, models, message):
    Asked(monkeypatch, **({"one": stage} if stage else {}))
    with pytest.raises((ModelError, DataError), match=message):
        taught(SPLITS, SPLITS.train, recipe("teachers = { one = 1.0 }"), tokenizer, models, tmp_path)
    assert not (tmp_path / TEACHERS).exists()


def test_a_permissive_run_learns_from_no_model_of_other_terms(tmp_path, tokenizer, monkeypatch):
    Asked(monkeypatch, one=judge("kill", 4.0))
    with pytest.raises(DataError, match="teacher one: fake-hazard is under none"):
        taught(SPLITS, SPLITS.train, recipe("teachers = { one = 1.0 }", "permissive"), tokenizer, {}, tmp_path)


def test_the_loss_draws_a_logit_to_the_teachers_and_leaves_texts_that_none_judged_to_their_labels():
    shape = Loss(label_smoothing=0.0, focal_gamma=0.0, labels="none")
    objective = Objective(shape, {"a": [example("x")]}, torch.device("cpu"), teachers_weight=0.5)
    logits = torch.zeros(3, requires_grad=True)
    batch = Batch(
        torch.zeros(3, 1), torch.ones(3, 1), torch.tensor([1.0, NAN, 0.0]), torch.tensor([NAN, 2.0, 2.0]),
        torch.full((3, 0), NAN), [],
    )  # fmt: skip
    losses = objective(logits, torch.zeros(3, 0), batch)
    losses["loss"].backward()
    judged = torch.sigmoid(torch.tensor(2.0)) - 0.5
    torch.testing.assert_close(logits.grad, torch.stack([torch.tensor(-0.25), -judged / 4, 0.25 - judged / 4]))
    assert losses["loss"].item() == pytest.approx(losses["focal"].item() + losses["teachers"].item())
