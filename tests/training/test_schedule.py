"""Learning-rate schedules are those of torch and transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from training.schedule import rate


@pytest.mark.parametrize("kind", ["linear", "cosine", "onecycle"])
def test_a_rate_rises_to_the_peak_and_falls_to_nothing(kind: str) -> None:
    rates = [rate(kind, step, 200, 0.1) for step in range(200)]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert peak in range(18, 22)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.01


def test_onecycle_and_cosine_are_the_libraries() -> None:
    def library(make) -> list[float]:
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule, rates = make(optimizer), []
        for _ in range(199):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return rates

    onecycle = library(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, total_steps=200, pct_start=0.06))
    assert [rate("onecycle", step, 200, 0.06) for step in range(199)] == pytest.approx(onecycle, abs=1e-6)
    cosine = library(lambda o: get_cosine_schedule_with_warmup(o, 20, 200))
    assert [rate("cosine", step, 200, 0.1) for step in range(199)] == pytest.approx(cosine, abs=0.06)
