"""``cascade bench serve``, ``mix``: how much a server answers in time, and of which lengths texts are."""

from __future__ import annotations

import asyncio
import sys
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from cascade.cli.options import TINYSAFE, named

WIDE = 150  # columns of the table of peers

MixName = Annotated[
    str, typer.Option(help="Length mix of the texts: chat, guard, comments, long, or one of --mixes.", metavar="NAME")
]
MixFile = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Table of length mixes, as `cascade bench mix` makes it. Default: the one that ships.",
        show_default=False,
    ),
]
LimitMs = Annotated[float, typer.Option(min=0.1, help="Milliseconds within which 99 % of the calls must be answered.")]
Slack = Annotated[
    float,
    typer.Option(
        min=0,
        help="A text for which the bare session needs long has this many times as long as it needs, if that is more "
        "than the limit. 0: the same limit for all. Needs the floor.",
    ),
]
Seconds = Annotated[float, typer.Option(min=0.1, help="Seconds of each trial of a rate.")]
Runs = Annotated[int, typer.Option(min=1, help="Runs; the report has the median and the range.")]
WarmUpS = Annotated[float, typer.Option(min=0, help="Seconds of calls before each run that nobody looks at.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the arrivals and the texts.")]
LoadStage1 = Annotated[
    str,
    typer.Option("--stage1", help="Model of stage 1, of server and floor: an embedded name or a folder."),
]
ServerCores = Annotated[int, typer.Option(min=1, help="Cores that the server is kept to; the load has the others.")]

Texts = Annotated[int, typer.Option(min=1, help="Different texts; they come round again in another order.")]


def serve(
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION...]", help="Options of `cascade serve`, after --.", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A running server: HOST:PORT, or grpcs://HOST:PORT?ca=FILE&token_file=FILE where it has TLS and "
            "tokens. Default: one that is started for it, kept to --server-cores.",
            show_default=False,
        ),
    ] = None,
    pid: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Process of the running server, to see what CPU time and memory it uses.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Calls a second. Default: the highest rate is looked for at which 99 % of them are in time.",
            show_default=False,
        ),
    ] = None,
    mix: MixName = "chat",
    mixes: MixFile = None,
    limit_ms: LimitMs = 50.0,
    slack: Slack = 3.0,
    seconds: Seconds = 10.0,
    runs: Runs = 3,
    warm_up_s: WarmUpS = 3.0,
    seed: Seed = 0,
    provoking: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the texts that begin with a sentence that stage 1 flags, so that stage 2 is asked.",
        ),
    ] = 0.0,
    connections: Annotated[int, typer.Option(min=1, help="Connections, which take turns.")] = 1,
    cache: Annotated[bool, typer.Option("--cache", help="Let the server answer from its cache.")] = False,
    floor: Annotated[
        bool,
        typer.Option(
            help="Before each run measure the floor: a bare loop over stage 1's network, alone on the server's cores."
        ),
    ] = True,
    stage1: LoadStage1 = TINYSAFE,
    server_cores: ServerCores = 1,
    texts: Texts = 512,
) -> None:
    """Send texts at random times, whatever became of those before, and report what is answered in time.

    Latency is counted from the moment when a call was due, so that a server that stands still is not forgiven. Ends in
    one line of JSON on stdout; how it goes is on stderr.
    """
    if address and options:
        raise typer.BadParameter("options are for a server that is started here", param_hint="--address")
    if pid and not address:
        raise typer.BadParameter("is for a running server: give its --address too", param_hint="--pid")
    from cascade.bench.serving import run
    from cascade.bench.serving.mixes import load_mixes

    settings = run.Settings(
        mix_name=mix,
        mix=chosen(load_mixes(mixes), mix),
        stage1=stage1,
        limit_ms=limit_ms,
        slack=slack if floor else 0.0,
        seconds=seconds,
        runs=runs,
        warm_up_s=warm_up_s,
        seed=seed,
        provoking=provoking,
        server_cores=server_cores,
        texts=texts,
    )
    report = asyncio.run(
        run.measure_serve(
            settings,
            address=address,
            pid=pid,
            rate=rate,
            with_floor=floor,
            connections=connections,
            cache=cache,
            options=options or [],
            tell=tell,
        )
    )
    print(dumps(report))


def peers(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this peer, by its name or a part of it; may be given again.", show_default=False),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Where the peers' environments are made and kept, 5 GB for all. Default: cascade/peers in the user's "
            "cache folder.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Texts that a peer may score together.")] = 4,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write the report to this JSON file.", show_default=False)
    ] = None,
    mix: MixName = "chat",
    mixes: MixFile = None,
    limit_ms: LimitMs = 50.0,
    slack: Slack = 3.0,
    seconds: Seconds = 10.0,
    runs: Runs = 3,
    warm_up_s: WarmUpS = 3.0,
    seed: Seed = 0,
    stage1: LoadStage1 = TINYSAFE,
    server_cores: ServerCores = 1,
    texts: Texts = 512,
) -> None:
    """Put the same load on other servers of the same model, and on ours, in turn, and compare what they answer in time.

    Each peer is installed from PyPI into an environment of its own. One that cannot be installed or run here is named
    with the reason. A table goes to stderr, one line of JSON to stdout.
    """
    from cascade.bench.peers.catalogue import PEERS
    from cascade.bench.peers.environments import default_cache
    from cascade.bench.peers.run import measure_peers
    from cascade.bench.serving.mixes import load_mixes
    from cascade.bench.serving.run import Settings

    wanted = [peer for peer in PEERS if not only or any(part.lower() in peer.name.lower() for part in only)]
    if not wanted:
        raise typer.BadParameter(f"there are {', '.join(peer.name for peer in PEERS)}", param_hint="--only")
    settings = Settings(
        mix_name=mix,
        mix=chosen(load_mixes(mixes), mix),
        stage1=stage1,
        limit_ms=limit_ms,
        slack=slack,
        seconds=seconds,
        runs=runs,
        warm_up_s=warm_up_s,
        seed=seed,
        server_cores=server_cores,
        texts=texts,
    )
    cache = (cache_dir or default_cache()).absolute()
    report = asyncio.run(measure_peers(settings, wanted, batch=batch, cache=cache, tell=tell))
    write(dumps(report, indent=1) + "\n", out)
    _show(report)
    print(dumps(report))


def mix(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=FILE...", help="Texts by the name of their mix, *.jsonl or *.jsonl.gz, with the key text."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Where to write the table. Default: stdout.", show_default=False)
    ] = None,
    stage1: LoadStage1 = TINYSAFE,
) -> None:
    """Measure how long texts are, in tokens of stage 1, and write the quantiles as a table for --mixes.

    The table holds no texts.
    """
    from cascade.bench.serving.mixes import mix_of, read_texts, to_json
    from stages.registry import load_stage

    encode = load_stage(stage1).encode
    table = {}
    for given in files:
        name, path = named(given, "FILE", "FILES")
        lengths = (encode(text).tokens for text in read_texts(Path(path)))
        table[name] = mix_of(Path(path).name, lengths)
    if out is None:
        print(to_json(table), end="")
    write(to_json(table), out)


def write(text: str, out: Path | None) -> None:
    """Writes a file, if one is wanted.

    Raises:
        CascadeError: it cannot be written.
    """
    from cascade.errors import CascadeError

    if out is None:
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CascadeError(f"{out}: {error.strerror}") from error


def chosen(table: dict[str, Any], name: str) -> Any:
    """The mix of that name.

    Raises:
        BadParameter: there is none.
    """
    if name not in table:
        raise typer.BadParameter(f"{name}: there are {', '.join(table)}", param_hint="--mix")
    return table[name]


def tell(line: str) -> None:
    """Says how it goes, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    heads = ("server", "goodput/s", "of the floor", "cascade : it", "p50 ms", "p99 ms", "CPU ms", "MB", "note")
    floor = report["floor_texts_per_s"]
    lines = Table(*heads, title=f"goodput; the floor is {floor['median']} texts/s [{floor['low']}, {floor['high']}]")
    for row in report["servers"]:
        name = f"{row['name']} {row['version']}"
        if "failed" in row:
            lines.add_row(name, *["-"] * 7, row["failed"])
            continue
        typical, good, times = row["typical"], row["goodput_per_s"], row["cascade_to_it"]
        latency, server = typical.get("latency_ms", {}), typical.get("server", {})
        lines.add_row(
            name,
            f"{good['median']} [{good['low']}, {good['high']}]",
            str(row["to_floor"]["median"]),
            str(times["median"]) if times else "-",
            *(str(latency.get(name, "-")) for name in ("p50", "p99")),
            *(str(server.get(name, "-")) for name in ("cpu_ms_per_answer", "memory_mb")),
            row["note"],
        )
    Console(stderr=True, highlight=False, markup=False, width=WIDE).print(lines)
