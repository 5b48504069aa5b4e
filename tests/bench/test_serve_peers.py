"""Other servers: each is held to the right answer, and one that cannot run is named with the reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import stages
from cascade.bench.peers.catalogue import PEERS, Peer
from cascade.bench.peers.environments import Environment, PeerError, prepare
from cascade.bench.peers.run import Candidate, open_peer, table
from cascade.bench.serving.measure import Bench, Limit, Load
from cascade.bench.serving.process import Cores, ServerFailedError
from cascade.bench.serving.texts import Text
from stages.manifest import Manifest
from stages.registry import resolve

MODEL = resolve("tinysafe")
GOLDEN = Manifest.load(MODEL).golden[0].unsafe
BOTH = Cores(None, None)


def fake(unsafe):
    return Peer("fake", "fake", (), (str(Path(__file__).with_name("fake_peer.py")), "{port}", str(unsafe)))


def opened(peer, folder):
    environment = Environment(Path(sys.executable), {}, {}, folder)
    return open_peer(peer, environment, MODEL, BOTH, 1, folder)


async def test_a_peer_is_loaded_over_http_and_ended(tmp_path):
    load = Load([Text("How is bread made?", 5)], Limit(5000.0), 1.0, 0.2, 0)
    async with opened(fake(GOLDEN), tmp_path) as (send, server):
        bench = Bench(send, load, server, 0, lambda line: None)
        await bench.warm_up(10)
        _, found = await bench.at(30)
        assert (found["in_time"], found["errors"]) == (1.0, {})
        assert found["calls"] == pytest.approx(30, abs=25)
        assert found["server"]["memory_mb"] > 5
        (process,) = server.family()
    assert not process.is_running()


async def test_a_search_over_rates_finds_a_rate_that_holds(tmp_path):
    load = Load([Text("How is bread made?", 5)], Limit(5000.0), 0.2, 0.1, 0)
    async with opened(fake(GOLDEN), tmp_path) as (send, server):
        bench = Bench(send, load, server, 0, lambda line: None)
        slow = bench.at

        async def at(rate, *, stop_early=False):
            trial, found = await slow(min(rate, 40), stop_early=stop_early)
            if rate > 60:
                for outcome in trial.outcomes:
                    outcome.answer = None
            return trial, found | {"rate": rate}

        bench.at = at
        found = await bench.goodput(20, 1.5)
    assert 60 / 1.05 <= found["rate"] <= 60
    assert max(tried["rate"] for tried in found["tried"]) > 60


async def test_a_peer_that_scores_otherwise_is_no_peer(tmp_path):
    with pytest.raises(ServerFailedError, match="gives the logit"):
        async with opened(fake(GOLDEN + 1), tmp_path):
            pass


async def test_a_peer_that_ends_says_why(tmp_path):
    with pytest.raises(ServerFailedError, match="no mind to run"):
        async with opened(fake("ends"), tmp_path):
            pass


async def test_a_peer_that_cannot_be_installed_says_why(tmp_path):
    missing = Peer("fake", "fake", (str(tmp_path / "not-there.whl"),), ())
    with pytest.raises(PeerError, match="not-there"):
        await prepare(missing, MODEL, tmp_path / "cache")


async def test_an_environment_sees_our_stages_and_nothing_else_of_ours(tmp_path):
    """Made without packages, so that nothing is fetched."""
    environment = await prepare(Peer("fake", "fake", (), ()), MODEL, tmp_path)
    assert environment.python.is_relative_to(tmp_path)
    assert environment.versions == {}
    library = Path(environment.variables["PYTHONPATH"].split(":")[0])
    assert os.listdir(library) == ["stages"]
    assert os.readlink(library / "stages") == os.path.dirname(stages.__file__)
    again = await prepare(Peer("fake", "fake", (), ()), MODEL, tmp_path)
    assert again == environment


def test_the_table_has_ratios_to_the_floor_and_to_ours():
    def candidate(name, *rates):
        runs = [{"goodput_per_s": rate, "rate": rate, "tried": []} for rate in rates]
        return Candidate(name, "1.0", "", None, runs=runs)

    broken = Candidate("broken", "", "", None, failed="no wheel for this Python")
    rows = table(
        [candidate("cascade, stage 1 alone", 90.0, 110.0), candidate("peer", 45.0, 44.0), broken], [100.0, 110.0]
    )
    ours, peer, failed = rows
    assert ours["to_floor"] == {"median": 0.95, "low": 0.9, "high": 1.0}
    assert peer["cascade_to_it"] == {"median": 2.25, "low": 2.0, "high": 2.5}
    assert failed == {"name": "broken", "version": "", "note": "", "failed": "no wheel for this Python"}


def test_each_peer_has_a_program_and_a_reader():
    replies = {"BentoML": [1.5], "infinity": {"data": [[{"label": "unsafe", "score": 0.952574}]]}}
    for peer in PEERS:
        reply = replies.get(peer.name, {"unsafe": 1.5})
        assert peer.read(reply) == pytest.approx(1.5, abs=1e-4)
        with pytest.raises((LookupError, TypeError, ValueError, StopIteration)):
            peer.read({})
    assert len({peer.distribution for peer in PEERS}) == len(PEERS) == 7
