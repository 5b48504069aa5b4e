"""The length penalties: with them long harmless texts are flagged about as often as short ones, whatever the scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from cascade.merging.segments import pool
from stages.manifest import Manifest
from stages.registry import EMBEDDED
from stages.stage import Calibration, Isotonic, Platt, Window, WindowScores
from tests.fakes import FakeStage
from training.length import ALLOWED, LABEL_ALLOWED, LABEL_LEVEL, LEVEL, LengthPenalties, fit_length_penalties, main

TEXTS = [f"word{number} and other words" for number in range(400)]
SHIFT = -4.0  # of harmless logits


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


class Noisy(FakeStage):
    """A window's logits are drawn by its words from a logistic distribution of a given width around ``SHIFT``."""

    def __init__(self, width: float, labels: Sequence[float] = ()) -> None:
        super().__init__("tinysafe", window_words=20)
        self.widths = (width, *labels)

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        return [WindowScores(unsafe, np.array(labels)) for unsafe, *labels in map(self._draw, windows)]

    def _draw(self, window: Window) -> list[float]:
        random = Random(str(window.ids))
        return [SHIFT + width * logit(random.uniform(1e-9, 1 - 1e-9)) for width in self.widths]


def fit(stage: Noisy, calibration: Calibration, short: np.ndarray, documents: int = 60) -> LengthPenalties:
    by_label = np.full((len(short), len(calibration.labels)), SHIFT)
    return fit_length_penalties(stage, calibration, TEXTS, short, by_label, documents=documents)


@pytest.mark.parametrize("width", [0.6, 1.0, 1.5])
@pytest.mark.parametrize("calibrator", [Platt(), Platt(2.0, 1.0), Isotonic(Platt(), ((-4.0, -5.0), (4.0, 3.0)))])
def test_long_texts_are_flagged_about_as_often_as_short_ones(width: float, calibrator: Platt | Isotonic) -> None:
    rng = np.random.default_rng(1)
    draws = SHIFT + rng.logistic(0, width, size=(4000, 32))
    penalty = fit(Noisy(width), Calibration(calibrator), draws[:, 0]).verdict
    for count in (1, 4, 32):
        pooled = [pool(row[:count].tolist(), "length_calibrated", penalty) for row in draws]
        flagged = np.mean([calibrator(logit) >= LEVEL for logit in pooled])
        assert flagged <= max(ALLOWED, float(np.mean([calibrator(x) >= LEVEL for x in draws[:, 0]]))) + 0.03
    if penalty:  # and it is the least one: what is allowed is about used up
        assert flagged >= 0.3 * ALLOWED


def test_what_comes_nowhere_near_a_threshold_needs_no_penalty() -> None:
    found = fit(Noisy(0.1, [0.1, 2.0]), Calibration(labels=(Platt(), Platt())), np.full(400, SHIFT), documents=8)
    assert (found.verdict, found.labels[0]) == (0.0, 0.0)
    assert found.labels[1] > 0.2, "each label has its own"


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_where_all_scores_lie_on_one_side_of_the_level_there_is_no_penalty(bias: float) -> None:
    flat = Platt(1e-4, bias)
    found = fit(Noisy(1.0, [1.0]), Calibration(flat, (flat,)), np.zeros(400), documents=2)
    assert found == LengthPenalties(0.0, (0.0,))


def test_where_short_texts_are_flagged_often_long_ones_may_be_as_often() -> None:
    stage, calibration = Noisy(1.5), Calibration(Platt())
    seldom = fit(stage, calibration, np.full(400, SHIFT)).verdict
    often = fit(stage, calibration, np.where(np.arange(400) % 4 == 0, logit(LEVEL) + 0.1, SHIFT)).verdict
    assert 0 < often < seldom


def test_labels_are_held_to_their_own_level() -> None:
    rng = np.random.default_rng(2)
    draws = SHIFT + rng.logistic(0, 1.0, size=(8000, 32))
    (penalty,) = fit(Noisy(0.1, [1.0]), Calibration(labels=(Platt(),)), np.full(400, SHIFT)).labels
    flagged = np.mean([pool(row.tolist(), "length_calibrated", penalty) >= logit(LABEL_LEVEL) for row in draws])
    assert 0.2 * LABEL_ALLOWED <= flagged <= 3 * LABEL_ALLOWED


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--recipe", "tinysafe", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"training.length: {tmp_path}: no model folder, it has no manifest.json\n"


def test_a_model_that_only_names_hazards_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Manifest.load(EMBEDDED["hazard"]).model_copy(update={"judges": False}).save(tmp_path)
    assert main(["--data", str(tmp_path), "--recipe", "hazard", str(tmp_path)]) == 1
    assert "does not judge" in capsys.readouterr().err
