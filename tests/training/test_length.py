"""The length penalty: with it long harmless texts are flagged about as often as short ones, at any scale of scores."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from cascade.merging.segments import pool
from stages.stage import Window, WindowScores
from tests.fakes import FakeStage
from training.length import QUANTILE, fit_length_penalty

TEXTS = [f"word{number} and other words" for number in range(400)]


class Noisy(FakeStage):
    """A window's logit is drawn by its words from a logistic distribution of a given width."""

    def __init__(self, width: float) -> None:
        super().__init__("tinysafe", window_words=20)
        self.width = width

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        return [WindowScores(self._draw(window), np.zeros(7)) for window in windows]

    def _draw(self, window: Window) -> float:
        p = Random(str(window.ids)).uniform(1e-9, 1 - 1e-9)
        return self.width * float(np.log(p / (1 - p)))


@pytest.mark.parametrize("width", [0.5, 1.0, 3.0])
def test_long_texts_are_flagged_about_as_often_as_short_ones(width: float) -> None:
    stage = Noisy(width)
    penalty = fit_length_penalty(stage, TEXTS)
    assert penalty == pytest.approx(width * np.log(2), rel=0.25), "each doubling adds log 2 to a logistic tail"
    rng = np.random.default_rng(1)
    draws = rng.logistic(0, width, size=(4000, 32))
    threshold = np.quantile(draws[:, 0], QUANTILE)
    for count in (1, 4, 32):
        flagged = np.mean([pool(row[:count].tolist(), "length_calibrated", penalty) >= threshold for row in draws])
        plain = np.mean(draws[:, :count].max(axis=1) >= threshold)
        assert flagged == pytest.approx(1 - QUANTILE, abs=0.035)
        assert count == 1 or plain > 0.15


def test_scores_that_do_not_vary_need_no_penalty() -> None:
    assert fit_length_penalty(Noisy(0.0), TEXTS, documents=4) == 0.0
