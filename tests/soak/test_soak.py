"""The short form of ``make soak``, and that it would find a leak."""

import json
import random

import pytest

from tests.serve.conftest import FAKE_SERVER, environment
from tests.soak import run
from tests.soak.growth import Sample, growth


def memory(leak_mb, *, calls=200_000, noise_mb=1.0):
    """A server of 400 MB that needs 60 MB more for its first calls, and then so much more for all others."""
    rng = random.Random(3)
    points = [calls * number // 400 for number in range(401)]
    return [
        Sample(n, 340 + 60 * min(1, n / (0.1 * calls)) + leak_mb * n / calls + rng.gauss(0, noise_mb)) for n in points
    ]


@pytest.mark.parametrize(("leak_mb", "least", "most"), [(0, -0.005, 0.005), (20, 0.03, 0.05), (-20, -0.05, -0.03)])
def test_a_leak_is_told_from_a_warm_up(leak_mb, least, most):
    found = growth(memory(leak_mb))
    assert least < found["slope"] < most
    assert least < found["ends"] < most
    assert abs(found["warm_mb"] - 400) < 6


def test_a_server_of_fakes_is_soaked(monkeypatch, capsys):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(run, "MOST_GROWTH", 0.2)  # so few calls are all warm-up
    assert run.main(["1000"], FAKE_SERVER, "--audit") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["calls"] == sum(report["codes"].values()) == 1000
    assert report["unexpected"] == {}
    assert report["warm_mb"] > 20
    assert report["audit_records"] >= report["answered"] > 900
    assert {kind.split()[0] for kind in report["codes"]} == set(run.SHARES)


def test_a_code_that_should_not_come_fails_the_run():
    callers = run.Callers(None, 0)
    callers.codes["check", "OK"] = 5
    callers.codes["taken_back", "CANCELLED"] = 5
    assert callers.failures == {}
    callers.codes["wrong", "INTERNAL"] = 1
    assert callers.failures == {"wrong INTERNAL": 1}
