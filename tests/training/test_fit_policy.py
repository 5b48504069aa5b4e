"""What thresholds are chosen by: F1 at the prevalence of traffic."""

from __future__ import annotations

import numpy as np
import pytest

from training.fit_policy import TRAFFIC, operating_point
from training.held_out import HeldOut
from training.prevalence import PREVALENCE, f1


def test_f1_of_chat_is_that_of_as_many_safe_prompts_as_traffic_has() -> None:
    unsafe, safe = 10, 40
    targets = np.array([1.0] * unsafe + [0.0] * safe)
    predicted = np.array([True] * 7 + [False] * 3 + [True] * 4 + [False] * 36)
    copies = 1000  # of each unsafe prompt; so many safe ones that the unsafe are as rare as in traffic
    alarms = (1 - PREVALENCE["chat"]) / PREVALENCE["chat"] * unsafe * copies * 4 / safe
    expected = 2 * 7 * copies / (7 * copies + alarms + unsafe * copies)
    assert f1(predicted, targets, "chat") == pytest.approx(expected)
    assert f1(predicted, targets, "guard") == f1(predicted, targets) == pytest.approx(14 / 21)


@pytest.mark.parametrize("targets", [np.zeros(4), np.ones(4)])
def test_one_class_alone_has_no_prevalence(targets: np.ndarray) -> None:
    assert f1(np.ones(4, dtype=bool), targets, "chat") == f1(np.ones(4, dtype=bool), targets)


def test_each_traffic_has_the_threshold_that_parts_its_own_rows() -> None:
    sources = ["toxicchat"] * 40 + ["comments"] * 40
    score = np.concatenate([np.linspace(0.5, 0.6, 20), np.linspace(0.8, 0.9, 20)] * 2)
    score[40:] -= 0.4
    unsafe = np.array(([0.0] * 20 + [1.0] * 20) * 2)
    held = HeldOut([], sources, unsafe, np.full((80, 14), np.nan))
    assert 0.6 < operating_point(score, held).threshold < 0.8
    assert 0.2 < operating_point(score, held, traffic=TRAFFIC["comments"]).threshold < 0.4
