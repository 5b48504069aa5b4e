"""How fast a stage is thought to be, and for how long."""

from __future__ import annotations

import pytest

from cascade.pace import HALF_LIFE_S, Pace


def measured(*batches: tuple[int, float], now: float = 0.0) -> Pace:
    pace = Pace()
    for tokens, seconds in batches:
        pace.add(tokens, seconds, now)
    return pace


def test_nothing_is_expected_before_anything_was_measured() -> None:
    pace = Pace()
    assert (pace.throughput_s(1000, 0.0), pace.expected_s(1000, 0.0)) == (0.0, 0.0)


def test_a_fixed_cost_and_one_for_each_token_are_told_apart() -> None:
    pace = measured(*[(tokens, 0.002 + 0.0001 * tokens) for tokens in (10, 500, 40, 200, 90) * 20])
    assert pace.expected_s(4, 0.0) == pytest.approx(0.0024, rel=0.05)
    assert pace.expected_s(512, 0.0) == pytest.approx(0.0532, rel=0.05)


def test_batches_of_one_size_make_time_proportional_to_tokens() -> None:
    pace = measured(*[(100, 0.01)] * 10)
    assert pace.expected_s(300, 0.0) == pytest.approx(0.03)
    assert pace.throughput_s(1000, 0.0) == pytest.approx(0.1)


@pytest.mark.parametrize("batches", [[(10, 0.5), (1000, 0.1)], [(100, 0.001), (110, 0.1)]])
def test_no_measurement_makes_a_time_negative(batches: list[tuple[int, float]]) -> None:
    pace = measured(*batches)
    assert all(pace.expected_s(tokens, 0.0) >= 0 for tokens in (0, 1, 50, 5000))


def test_a_stage_that_has_become_slower_is_found_out_soon() -> None:
    pace = measured(*[(100, 0.01)] * 200, *[(100, 0.1)] * 40)
    assert 0.08 < pace.throughput_s(100, 0.0) <= 0.1


def test_an_old_measurement_fades() -> None:
    pace = measured((100, 0.1), now=5.0)
    assert pace.throughput_s(100, 5.0) == pytest.approx(0.1)
    assert pace.throughput_s(100, 5.0 + HALF_LIFE_S) == pytest.approx(0.05)
    assert pace.expected_s(100, 5.0 + 10 * HALF_LIFE_S) < 0.0002


def test_one_stall_does_not_make_a_stage_slow_but_many_do() -> None:
    pace = Pace()
    for _ in range(100):
        pace.add(100, 0.01, 0.0)
    pace.add(100, 1.0, 0.0)
    assert pace.expected_s(100, 0.0) < 0.015
    for _ in range(60):
        pace.add(100, 0.1, 0.0)
    assert pace.expected_s(100, 0.0) > 0.07
