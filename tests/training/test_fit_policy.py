"""What thresholds are chosen by: F1 at the prevalence of traffic."""

from __future__ import annotations

import numpy as np
import pytest

from training.fit_policy import PREVALENCE, f1


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
