"""The arithmetic of docs/scale.md: the laws of scaling, and tables out of measurements that were made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from stages.registry import load_stage
from tests.ray import scaling, sessions, tables
from tests.ray.usage import Usage, role_of

# Of a machine whose second core adds 0.8; a core does 9/10 while the other is busy.
C1, C2, OVER = (
    {"32": 3.0, "128": 10.0, "512": 40.0},
    {"32": 12.0, "128": 40.0, "512": 160.0},
    {32: 0.5, 128: 0.8, 512: 2.0},
)
FOUND: dict[str, Any] = {
    "bare": {"tinysafe": C1, "hazard": C2},
    "side_by_side": {"1": 100.0, "2": 180.0},
    "bulk": {
        tokens: {"cpu_ms": C1[tokens] + 0.25 * C2[tokens] + OVER[int(tokens)], "escalated": 0.25} for tokens in C1
    },
    "scans": {
        "local, `--threads 1`": {"texts_s": 90.0, "cores": 1.2},
        "local, `--threads 2`": {"texts_s": 160.0, "cores": 1.9},
        "ray, 1 worker": {"texts_s": 80.0, "cores": 1.25},
        "ray, 2 workers": {"texts_s": 128.0, "cores": 2.0},
    },
    "parts": [{"parts": 2, "cpu_s": 5.0}, {"parts": 102, "cpu_s": 6.0}],
    "served": {
        "serve": {
            "1": {"calls_s": 100.0, "texts_s": 100.0, "refused": 0.0, "cpu_ms": {"the command": 8.0}},
            "32": {"calls_s": 4.0, "texts_s": 128.0, "refused": 0.0, "cpu_ms": {"the command": 7.0}},
        },
        "ray 1": {
            "1": {
                "calls_s": 80.0,
                "texts_s": 80.0,
                "refused": 0.01,
                "cpu_ms": {"ingress": 5.0, "stage 2": 4.5, "proxy": 2.0, "cluster": 0.4, "the command": 0.0},
            },
            "32": {
                "calls_s": 4.0,
                "texts_s": 128.0,
                "refused": 0.01,
                "cpu_ms": {"ingress": 4.0, "stage 2": 4.0, "proxy": 0.125},
            },
        },
    },
}


def cells(table: str) -> list[list[str]]:
    """The rows of a table below its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


@pytest.mark.parametrize("two", [2.0, 1.65, 1.0, 0.8])
def test_each_law_goes_through_the_point_that_it_was_fitted_to(two: float) -> None:
    fitted = scaling.fit(two)
    assert fitted.range(1) == (1, 1)
    assert fitted.range(2) == pytest.approx((two, two))


def test_what_two_points_allow_widens_with_the_distance() -> None:
    fitted = scaling.fit(1.6)
    assert fitted.contention == pytest.approx(0.25)
    low, high = fitted.range(1000)
    assert low < 0.01 < 3.9 < high < 1 / fitted.contention
    widths = [high / low for low, high in map(fitted.range, (2, 3, 4, 16, 1000))]
    assert widths == sorted(widths)
    assert scaling.fit(2.3) == scaling.fit(2.0) == scaling.Fit(0, 0), "more than twice is no gain to count on"


def test_gunthers_law_is_amdahls_without_crosstalk() -> None:
    serial = 0.05
    assert scaling.speedup(16, serial) == pytest.approx(1 / (serial + (1 - serial) / 16))
    most = max(range(1, 200), key=lambda workers: scaling.speedup(workers, 0.02, 0.0005))
    assert most == pytest.approx(((1 - 0.02) / 0.0005) ** 0.5, abs=1), "where it has its maximum, after Gunther"


def test_a_billion_texts_a_day() -> None:
    average = scaling.need(8.64)
    assert (average.cores, average.nodes, average.dollars) == pytest.approx((100, 7, 96))
    assert scaling.need(8.64, peak=3, used=0.5).cores == pytest.approx(100 * 3 / 0.5)


def test_overheads_are_what_the_models_leave() -> None:
    assert tables.overheads(FOUND) == pytest.approx(OVER)
    assert cells(tables.values(FOUND))[-1][1:] == ["0.50", "0.80", "2.00"]


def test_ray_is_charged_with_what_a_call_costs_more_than_without_it() -> None:
    rows = cells(tables.calls(FOUND))
    assert [row[-1] for row in rows] == ["", "", "3.50", "1.12"]
    assert rows[2][4:8] == ["1 %", "9.50", "2.00", "0.40"], "judging, the proxy, and the rest, which is not charged"


def test_predictions_are_made_without_what_they_predict() -> None:
    text, local, ray = cells(tables.predicted(FOUND))
    line = 0.5 + (2.0 - 0.5) * (128 - 32) / (512 - 32)
    assert float(text[2]) == pytest.approx(10 + 0.25 * 40 + line, abs=0.05)
    assert [local[2:4], ray[2:4]] == [["162.0", "160.0"], ["144.0", "128.0"]]
    other = json.loads(json.dumps(FOUND))
    other["bulk"]["128"]["cpu_ms"] = other["scans"]["ray, 2 workers"]["texts_s"] = 1.0
    assert [row[2] for row in cells(tables.predicted(other))] == [text[2], local[2], ray[2]]


def test_prices_count_what_busy_neighbours_cost_and_once() -> None:
    rows = cells(tables.prices(FOUND))
    busy = (3 + sessions.SHARE * 12 + 0.5) / 0.9
    assert rows[0][1:3] == [f"{busy:.1f}", f"{1000 / busy:.0f}"]
    assert rows[0][3] == f"{1e9 / 86400 * busy / 1000:,.0f}"
    assert rows[0][9] == f"{16 * 86400 / busy / 1e3:,.0f}"
    assert [row[1] for row in rows[-2:]] == ["11.5", "8.1"], "ingress, stage 2 and proxy, which had busy neighbours"


def test_bounds_are_of_one_process() -> None:
    driver, check, batch = cells(tables.bounds(FOUND))
    assert driver[1:] == ["10.0 ms a part of 20,000 texts", "100 parts, 2,000,000 texts"]
    assert check[1:] == ["2.00 ms a call", "500 calls, 500 texts"]
    assert batch[1:] == ["4.00 ms a call", "250 calls, 8,000 texts"]


def test_speedups_stand_beside_the_cores_that_are_busy() -> None:
    bare, local, ray = cells(tables.speedups(FOUND))
    assert bare[1:6] == ["100", "180", "1.80", "1.00", "2.00"]
    assert local[1:6] == ["90", "160", "1.78", "1.20", "1.90"]
    assert ray[1:6] == ["80", "128", "1.60", "1.25", "2.00"]


def test_what_ray_loses_by_itself_is_less_than_all_that_it_loses() -> None:
    everything, own = cells(tables.ranges(FOUND))
    assert everything[1] == "1.6 to 1.6"
    assert own[1] == "1.8 to 1.8", "2 x 1.6 / 1.8"
    assert all(tables.all_of(FOUND).values())


@pytest.mark.parametrize("tokens", [32, 128])
def test_texts_have_the_tokens_and_are_different(tokens: int) -> None:
    made = sessions.texts(50, tokens)
    stage = load_stage("tinysafe")
    assert {sum(map(len, stage.encode(text).windows)) for text in made} == {tokens}
    assert len(set(made)) == 50
    calm, bad = set(sessions.CALM.split()), set(sessions.FLAGGED.split())
    assert not calm & bad
    flagged = [set(text.split()) <= bad for text in made]
    assert [set(text.split()) <= calm for text in made] == [not one for one in flagged]
    assert sum(flagged) == 50 * sessions.SHARE


def test_sessions_are_timed() -> None:
    assert sessions.milliseconds("hazard", 8, 3) > 0
    assert sessions.together(2, 0.01, tokens=8) > 0


def test_cpu_time_is_told_by_process() -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    command = [sys.executable, "-c", code, "raylet"]
    with Usage(os.getpid()) as usage:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
    process.communicate(b"\n")
    assert usage.seconds["cluster"] + 0.02 >= 0.3, "the clock of processes ticks in hundredths"
    assert usage.seconds["the command"] >= 0
    with Usage(os.getpid()) as later:
        pass
    assert later.seconds["cluster"] == 0, "it is over"


def test_roles_are_by_rays_titles() -> None:
    assert role_of("ray::ServeReplica:cascade:Stage2") == "stage 2"
    assert role_of("ray::ProxyActor") == "proxy"
    assert role_of("python other.py") == "other processes"
