"""``cascade bench serve`` put together: *settings* -> the floor, then trials of a server, run by run -> one report."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from numpy.random import default_rng

from cascade.bench.serving.callers import echo_caller, grpc_caller
from cascade.bench.serving.drive import drive
from cascade.bench.serving.figures import figures
from cascade.bench.serving.floor import LENGTHS, BareTimes, Floor, echo_server, floor
from cascade.bench.serving.measure import Bench, Limit, Load, Told, pool
from cascade.bench.serving.mixes import Mix
from cascade.bench.serving.process import Cores, Server, keep_to, share_cores, started
from cascade.bench.serving.report import machine, middle, summary
from cascade.bench.serving.texts import Text, Writer
from stages.registry import load_stage
from stages.remote.place import Place, place_of

SHARE = 0.5  # of what the floor does: where a search begins
BLIND = 20.0  # calls a second, where it begins without a floor
STEP, NEXT_STEP = 1.5, 1.15  # of a first search, and of one that begins where another ended


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for; see ``cascade bench serve --help``."""

    mix_name: str
    mix: Mix
    stage1: str = "tinysafe"
    limit_ms: float = 50.0
    slack: float = 3.0
    seconds: float = 10.0
    runs: int = 3
    warm_up_s: float = 3.0
    seed: int = 0
    provoking: float = 0.0
    server_cores: int = 1
    texts: int = 512

    def described(self) -> dict[str, Any]:
        """As JSON, without the table of the mix."""
        return {name: value for name, value in asdict(self).items() if name != "mix"} | {"mix_mean": self.mix.mean}


@dataclass(frozen=True, slots=True)
class FloorFigures:
    """What the bare session does: the time of a text by length, and texts a second at the best batch."""

    bare: BareTimes
    per_s: float
    batches: dict[int, float]
    echo: dict[str, Any]

    def described(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "texts_per_s": round(self.per_s, 2),
            "by_batch": {batch: round(rate, 2) for batch, rate in self.batches.items()},
            "bare_ms": {tokens: round(ms, 3) for tokens, ms in zip(self.bare.tokens, self.bare.ms, strict=True)},
            "echo_ms": self.echo["latency_ms"],
            "echo_per_s": self.echo["answered_per_s"],
        }


def floor_of(floors: Sequence[FloorFigures]) -> dict[str, Any]:
    """The floors of all runs as JSON: their median, and the other figures of the one in the middle."""
    ordered = sorted(floors, key=lambda one: one.per_s)
    typical = ordered[(len(ordered) - 1) // 2].described()
    rates = [one.per_s for one in floors]
    return typical | {"texts_per_s": round(median(rates), 2), "runs": [round(rate, 2) for rate in rates]}


def write_texts(settings: Settings) -> list[Text]:
    """The texts of a mix, counted by the tokenizer of stage 1."""
    encode = load_stage(settings.stage1).encode
    return pool(
        settings.mix,
        Writer(lambda text: encode(text).tokens, provoking=settings.provoking),
        settings.seed,
        settings.texts,
    )


def make_load(settings: Settings, texts: Sequence[Text], bare: BareTimes | None) -> Load:
    """What is sent to each server."""
    limit = Limit(settings.limit_ms, settings.slack, bare)
    return Load(texts, limit, settings.seconds, settings.warm_up_s, settings.seed)


async def measure_floor(settings: Settings, texts: Sequence[Text], cores: Cores, run: int, tell: Told) -> FloorFigures:
    """The floor, under the arrivals that a server as fast as it would get.

    Raises:
        ServerFailedError: the model cannot be run bare.
    """
    async with floor(settings.stage1, cores.server) as loop, echo_server(cores.load) as target:
        by_length = sorted(texts, key=lambda text: text.tokens)
        some = [by_length[round(at * (len(texts) - 1) / (LENGTHS - 1))] for at in range(LENGTHS)]
        bare = await loop.bare_times([text.text for text in some])
        alone = await loop.loop([text.text for text in texts], settings.seconds / 5)
        best = max(alone, key=lambda batch: alone[batch])
        rate, echo = await _beside_arrivals(settings, texts, loop, target, best, alone[best], run)
    tell(f"floor: {rate:.1f} texts/s at batch {best} beside an echo server, {alone[best]:.1f} alone")
    return FloorFigures(bare, rate, alone, echo)


async def _beside_arrivals(
    settings: Settings, texts: Sequence[Text], loop: Floor, target: str, batch: int, rate: float, run: int
) -> tuple[float, dict[str, Any]]:
    load = make_load(settings, texts, None)
    # Arrivals go on for a little longer than the loop, whose last round may begin just before the end.
    seconds = settings.seconds + 2 * len(texts) / rate
    calls = load.calls(rate, seconds, default_rng((settings.seed, run)))
    async with echo_caller(target) as send:
        arrivals = asyncio.create_task(drive(send, calls, seconds))
        found = await loop.loop([text.text for text in texts], settings.seconds, [batch])
        trial = await arrivals
    return found[batch], figures(trial, load.limit.seconds)


async def measure_serve(
    settings: Settings,
    *,
    address: str | None,
    pid: int | None,
    rate: float | None,
    with_floor: bool,
    connections: int,
    cache: bool,
    options: Sequence[str],
    tell: Told,
) -> dict[str, Any]:
    """The report of one server.

    Args:
        settings: the load.
        address: a running server; None to start one, with the options of ``cascade serve`` given.
        pid: the process of a running server on this machine, to see what it uses.
        rate: calls a second; None to look for the highest that is in time.
        with_floor: measure the floor before each run; without it the limit is the same for all texts.
        connections: to the server.
        cache: let the server answer from its cache.
        options: of ``cascade serve``.
        tell: is told how it goes.

    Raises:
        CascadeError: the server cannot be started or reached, or the model not be run.
    """
    cores = share_cores(settings.server_cores)
    keep_to(cores.load)
    about, texts = machine(), await asyncio.to_thread(write_texts, settings)
    runs: list[dict[str, Any]] = []
    floors: list[FloorFigures] = []
    start = rate or 0.0
    async with (
        _server(settings, address, pid, cores, options) as (place, server, ready),
        grpc_caller(place, connections=connections, cache=cache) as send,
    ):
        for run in range(settings.runs):
            if with_floor:  # anew for each run, while the server rests: a machine that changes changes both
                floors.append(await measure_floor(settings, texts, cores, run, tell))
            load = make_load(settings, texts, floors[-1].bare if floors else None)
            start = start or (SHARE * floors[-1].per_s if floors else BLIND)
            bench = Bench(send, load, server, run, tell)
            await bench.warm_up(start)
            if rate:
                runs.append((await bench.at(rate))[1])
            else:
                runs.append(await bench.goodput(start, NEXT_STEP if run else STEP))
                start = runs[-1]["rate"] or start
    report: dict[str, Any] = {"bench": "serve", "settings": settings.described(), "ready": ready, "machine": about}
    report |= {**summary(runs), "pinned": cores.server is not None and address is None, "fixed_rate": rate}
    if floors:
        ratio = [run["goodput_per_s"] / one.per_s for run, one in zip(runs, floors, strict=True)]
        report |= {"floor": floor_of(floors), "goodput_to_floor": middle(ratio)}
    return {**report, "runs": runs}


@asynccontextmanager
async def _server(
    settings: Settings, address: str | None, pid: int | None, cores: Cores, options: Sequence[str]
) -> AsyncIterator[tuple[Place, Server | None, str]]:
    if address is not None:
        yield place_of(address if "://" in address else f"grpc://{address}"), Server(pid) if pid else None, ""
        return
    with tempfile.TemporaryDirectory() as folder:
        async with cascade_server(settings.stage1, options, cores, Path(folder)) as running:
            yield running


@asynccontextmanager
async def cascade_server(
    stage1: str, options: Sequence[str], cores: Cores, folder: Path
) -> AsyncIterator[tuple[Place, Server, str]]:
    """Our own server on its cores: where it is, its process, and its line on stdout.

    Raises:
        ServerFailedError: it did not start.
    """
    command = [sys.executable, "-m", "cascade.cli", "serve", "--port", "0", "--stage1", stage1, *options]
    own = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
    async with started(command, folder / "serve.log", cores.server, ready="ready grpc=", environment=own) as running:
        target = running.ready_line.split()[1].removeprefix("grpc=")
        yield place_of(f"grpc://{target}"), running.server, running.ready_line
