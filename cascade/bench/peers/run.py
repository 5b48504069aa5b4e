"""``cascade bench peers``: *settings* -> the floor, our server and each peer in turn, run after run -> table.

Each server runs alone on the server's cores, is started anew for each run, gets texts in the order in which all others
get them in that run, and must first give the same logit for a text that our own stage gives.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any

from cascade.bench.peers.catalogue import Peer
from cascade.bench.peers.environments import APPS, Environment, PeerError, prepare
from cascade.bench.serving.callers import grpc_caller, http_caller
from cascade.bench.serving.drive import CallError, Send
from cascade.bench.serving.measure import Bench, Load, Told
from cascade.bench.serving.process import Cores, Server, ServerFailedError, Started, keep_to, share_cores, started, tail
from cascade.bench.serving.report import machine, middle, summary
from cascade.bench.serving.run import (
    NEXT_STEP,
    SHARE,
    STEP,
    Settings,
    cascade_server,
    make_load,
    measure_floor,
    write_texts,
)
from cascade.errors import CascadeError
from stages.manifest import Manifest
from stages.registry import resolve

READY_S = 180.0  # Ray starts a small cluster
WHO = "cascade"
OURS = {f"{WHO}, stage 1 alone": ("--threads", "1", "--stage2", "none"), WHO: ("--threads", "1")}
Open = AbstractAsyncContextManager[tuple[Send, Server]]


@dataclass
class Candidate:
    """A server of the table: how it is opened, where its next search begins, and what came of it."""

    name: str
    version: str
    note: str
    open: Any  # Callable[[], Open]
    start: float = 0.0
    runs: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""


async def measure_peers(
    settings: Settings, peers: Sequence[Peer], *, batch: int, cache: Path, tell: Told
) -> dict[str, Any]:
    """The report. A peer that cannot be installed or run is in it with the reason.

    Args:
        settings: the load.
        peers: which.
        batch: texts that a peer may score together.
        cache: where their environments are kept.
        tell: is told how it goes.

    Raises:
        CascadeError: our own server, or the floor, cannot be run.
    """
    cores = share_cores(settings.server_cores)
    about, model = machine(), resolve(settings.stage1)
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        candidates = [
            Candidate(name, own_version(), "", partial(_open_cascade, settings.stage1, options, cores, logs))
            for name, options in OURS.items()
        ]
        candidates += [await _prepared(peer, model, cores, batch, cache, logs, tell) for peer in peers]
        keep_to(cores.load)
        texts = await asyncio.to_thread(write_texts, settings)
        floors = []
        for run in range(settings.runs):
            tell(f"run {run + 1} of {settings.runs}")
            found = await measure_floor(settings, texts, cores, run, tell)
            floors.append(found.per_s)
            load = make_load(settings, texts, found.bare)
            for candidate in candidates:
                if not candidate.failed:
                    await _run(candidate, load, run, SHARE * found.per_s, tell)
    report = {"bench": "peers", "settings": settings.described(), "batch": batch, "machine": about}
    report |= {"pinned": cores.server is not None, "floor_texts_per_s": middle(floors)}
    return report | {"servers": table(candidates, floors)}


def table(candidates: Sequence[Candidate], floors: Sequence[float]) -> list[dict[str, Any]]:
    """A row for each server: goodput, its share of the floor of the same run, and how many times it ours is."""
    ours = next(candidate for candidate in candidates if candidate.name == f"{WHO}, stage 1 alone")
    rows = []
    for candidate in candidates:
        row: dict[str, Any] = {"name": candidate.name, "version": candidate.version, "note": candidate.note}
        if candidate.failed:
            rows.append({**row, "failed": candidate.failed})
            continue
        good = [float(run["goodput_per_s"]) for run in candidate.runs]
        row |= summary(candidate.runs)
        row["to_floor"] = middle([rate / most for rate, most in zip(good, floors, strict=False)])
        pairs = [(float(run["goodput_per_s"]), rate) for run, rate in zip(ours.runs, good, strict=False)]
        times = [own / rate for own, rate in pairs if rate]
        row["cascade_to_it"] = middle(times) if times and len(times) == len(pairs) else None
        rows.append({**row, "runs": candidate.runs})
    return rows


async def _run(candidate: Candidate, load: Load, run: int, start: float, tell: Told) -> None:
    tell(candidate.name)
    try:
        async with candidate.open() as (send, server):
            bench = Bench(send, load, server, run, tell)
            begin = candidate.start or start
            await bench.warm_up(begin / 2)
            found = await bench.goodput(begin, NEXT_STEP if candidate.start else STEP)
    except CascadeError as error:
        if candidate.name in OURS:
            raise
        candidate.failed = str(error)
        tell(f"{candidate.name}: {error}")
        return
    candidate.runs.append(found)
    candidate.start = found["rate"]


async def _prepared(
    peer: Peer, model: Path, cores: Cores, batch: int, cache: Path, logs: Path, tell: Told
) -> Candidate:
    tell(f"{peer.name}: its environment")
    try:
        environment = await prepare(peer, model, cache)
    except PeerError as error:
        tell(f"{peer.name}: {error}")
        return Candidate(peer.name, "", peer.note, None, failed=str(error))
    has = environment.versions.get(peer.distribution, "")
    return Candidate(peer.name, has, peer.note, partial(open_peer, peer, environment, model, cores, batch, logs))


@asynccontextmanager
async def _open_cascade(
    stage1: str, options: Sequence[str], cores: Cores, folder: Path
) -> AsyncIterator[tuple[Send, Server]]:
    async with cascade_server(stage1, options, cores, folder) as (place, server, _), grpc_caller(place) as send:
        yield send, server


@asynccontextmanager
async def open_peer(
    peer: Peer, environment: Environment, model: Path, cores: Cores, batch: int, folder: Path
) -> AsyncIterator[tuple[Send, Server]]:
    """A peer on its cores, once it has given the right answer.

    Raises:
        ServerFailedError: it did not start, or scores otherwise than our stage.
    """
    port, log = free_port(), folder / "peer.log"
    places = {"port": port, "batch": batch, "apps": APPS}
    command = [str(environment.python), *(part.format(**places) for part in peer.command)]
    own = {"BENCH_BATCH": str(batch), "BENTOML_HOME": str(folder / "bentoml"), "HF_HOME": str(folder / "hf")}
    variables = environment.variables | own
    at = environment.hub if peer.hub else folder
    last: list[float] = []

    def read(reply: Any) -> None:
        last[:] = [peer.read(reply)]

    url = f"http://127.0.0.1:{port}{peer.path}"
    async with (
        started(command, log, cores.server, environment=variables, folder=at) as running,
        http_caller(url, peer.body, read) as send,
    ):
        await _ready(send, running, log, last, Manifest.load(model))
        yield send, running.server


async def _ready(send: Send, running: Started, log: Path, last: list[float], manifest: Manifest) -> None:
    golden = manifest.golden[0]
    until, reason = time.monotonic() + READY_S, ""
    while not last:
        if running.process.poll() is not None:
            raise ServerFailedError(f"it ended with {running.process.returncode}: {tail(log)}")
        if time.monotonic() > until:
            raise ServerFailedError(f"no answer within {READY_S:g} s ({reason}): {tail(log)}")
        try:
            async with asyncio.timeout(READY_S):
                await send(golden.text)
        except (CallError, TimeoutError) as error:
            reason = str(error) or "time-out"
            await asyncio.sleep(0.2)
    if not isfinite(last[0]) or abs(last[0] - golden.unsafe) > manifest.tolerance:
        raise ServerFailedError(f"it gives the logit {last[0]:.3f} where the model's is {golden.unsafe:.3f}")


def own_version() -> str:
    """The version of this program; a source tree that is not installed has none."""
    try:
        return version("safety-cascade")
    except PackageNotFoundError:
        return "not installed"


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
