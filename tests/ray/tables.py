"""The tables of docs/scale.md: *what* ``tests.ray.costs`` *measured* -> Markdown, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.ray.scaling import CORES, DAY_S, PEAK, USED, Fit, fit, need, overhead_at, work
from tests.ray.sessions import SHARE

PART_TEXTS = 20_000  # of a part of the default size, docs/scale.md
MANY = (2, 16, 1000)  # workers
PAIRS = {
    "bare sessions, processes": ("side_by_side", "1", "2"),
    "local engine, threads": ("scans", "local, `--threads 1`", "local, `--threads 2`"),
    "engine ray, workers": ("scans", "ray, 1 worker", "ray, 2 workers"),
}
JUDGING = ("the command", "ingress", "stage 2")  # processes of a server whose work is judging


def all_of(found: dict[str, Any]) -> dict[str, str]:
    """Every table."""
    return {
        "values": values(found),
        "calls": calls(found),
        "speed-ups": speedups(found),
        "range": ranges(found),
        "predicted": predicted(found),
        "prices": prices(found),
        "bounds": bounds(found),
    }


def markdown(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table."""
    lines = [list(head), None, *rows]
    return "\n".join(
        f"| {' | '.join('---' for _ in lines[0])} |" if line is None else f"| {' | '.join(map(str, line))} |"
        for line in lines
    )


def overheads(found: dict[str, Any]) -> dict[int, float]:
    """Tokens -> milliseconds of a text in the bulk scan that are not the models'."""
    bare = found["bare"]
    return {
        int(tokens): bulk["cpu_ms"] - work(bare["tinysafe"][tokens], bare["hazard"][tokens], bulk["escalated"], 0)
        for tokens, bulk in found["bulk"].items()
    }


def rates(found: dict[str, Any], pair: str) -> tuple[float, float]:
    """Texts a second of one and of two."""
    section, *cases = PAIRS[pair]
    one, two = (found[section][case] for case in cases)
    return (one["texts_s"], two["texts_s"]) if isinstance(one, dict) else (one, two)


def gain(found: dict[str, Any], pair: str) -> float:
    """What two do, as a multiple of what one does."""
    one, two = rates(found, pair)
    return two / one


def shared(found: dict[str, Any]) -> float:
    """What a core does while its neighbour is busy, as a share of what it does alone."""
    return min(1.0, gain(found, "bare sessions, processes") / 2)


def per_text(case: dict[str, Any]) -> float:
    """CPU milliseconds of a text in a server and in Ray's proxy."""
    return float(sum(case["cpu_ms"].get(role, 0.0) for role in (*JUDGING, "proxy")))


def values(found: dict[str, Any]) -> str:
    """c1, c2 and o by the length of the text."""
    own, lengths = overheads(found), list(found["bulk"])
    rows = [
        ["*c₁*, ms", *(f"{found['bare']['tinysafe'][tokens]:.2f}" for tokens in lengths)],
        ["*c₂*, ms", *(f"{found['bare']['hazard'][tokens]:.2f}" for tokens in lengths)],
        ["bulk scan, CPU ms of a text", *(f"{found['bulk'][tokens]['cpu_ms']:.2f}" for tokens in lengths)],
        ["*e* of these texts", *(f"{found['bulk'][tokens]['escalated']:.2f}" for tokens in lengths)],
        ["*o*, bulk: what is left, ms", *(f"{own[int(tokens)]:.2f}" for tokens in lengths)],
    ]
    return markdown(["", *(f"{tokens} tokens" for tokens in lengths)], rows)


def calls(found: dict[str, Any]) -> str:
    """What calls give and take, with and without Ray."""
    rows = []
    for server, cases in found["served"].items():
        for size, case in cases.items():
            cpu, alone = case["cpu_ms"], per_text(found["served"]["serve"][size])
            judging = sum(cpu.get(role, 0.0) for role in JUDGING)
            rest = sum(used for role, used in cpu.items() if role not in (*JUDGING, "proxy"))
            columns = [
                f"{case['calls_s']:.0f}",
                f"{case['texts_s']:.0f}",
                f"{100 * case['refused']:.0f} %",
                f"{judging:.2f}",
            ]
            columns += [f"{cpu['proxy']:.2f}", f"{rest:.2f}"] if "proxy" in cpu else ["", ""]
            title = "`cascade serve`" if server == "serve" else f"Ray, {server.split()[1]} of each replica"
            call = "`Check`" if size == "1" else f"`BatchCheck` of {size}"
            rows.append([title, call, *columns, "" if server == "serve" else f"{per_text(case) - alone:.2f}"])
    head = [
        "server",
        "call",
        "calls/s",
        "texts/s",
        "refused",
        "CPU ms of a text: judging",
        "Ray's proxy",
        "the rest of Ray",
    ]
    return markdown([*head, "*o* of Ray, ms"], rows)


def speedups(found: dict[str, Any]) -> str:
    """What two do against one, and the two laws through it."""
    rows = []
    for pair, (section, *cases) in PAIRS.items():
        fitted = fit(gain(found, pair))
        one, two = rates(found, pair)
        # A bare session has one thread, and that does nothing else.
        busy = [found[section][case]["cores"] for case in cases] if section == "scans" else [1.0, 2.0]
        laws = [f"{fitted.contention:.2f}", f"{fitted.crosstalk:.2f}"]
        rows.append([pair, f"{one:.0f}", f"{two:.0f}", f"{two / one:.2f}", *(f"{cores:.2f}" for cores in busy), *laws])
    head = [
        "",
        "texts/s of one",
        "of two",
        "speed-up",
        "cores that one keeps busy",
        "two",
        "contention, were it that alone",
        "crosstalk, were it that alone",
    ]
    return markdown(head, rows)


def rest_of_ray(found: dict[str, Any]) -> Fit:
    """The laws through what engine ray loses beyond what the machine does."""
    return fit(2 * gain(found, "engine ray, workers") / gain(found, "bare sessions, processes"))


def ranges(found: dict[str, Any]) -> str:
    """How far the two points reach: speed-ups of many workers."""
    fits = {
        "all that engine ray loses goes on between machines": fit(gain(found, "engine ray, workers")),
        "only what it loses beyond bare sessions does": rest_of_ray(found),
    }
    rows = [
        [title, *(f"{low:.2g} to {high:.2g}" for low, high in map(fitted.range, MANY))]
        for title, fitted in fits.items()
    ]
    return markdown(["", *(f"{workers:,} workers" for workers in MANY)], rows)


def predicted(found: dict[str, Any]) -> str:
    """Cases that nothing was fitted to."""
    bare, own, bulk = found["bare"], overheads(found), found["bulk"]["128"]
    ends = {tokens: own[tokens] for tokens in (32, 512)}
    rows = [
        (
            "CPU ms of a text of 128 tokens, bulk",
            "*c₁* + *e c₂* + *o*, *o* on the line between those of 32 and 512 tokens",
            work(bare["tinysafe"]["128"], bare["hazard"]["128"], bulk["escalated"], overhead_at(128, ends)),
            bulk["cpu_ms"],
        )
    ]
    for pair in list(PAIRS)[1:]:
        one, two = rates(found, pair)
        guess = one * gain(found, "bare sessions, processes")
        rows.append((f"texts/s of two: {pair}", "one, times the speed-up of bare sessions", guess, two))
    return markdown(
        ["case", "predicted from", "predicted", "measured", "difference"],
        [[*row[:2], f"{row[2]:.1f}", f"{row[3]:.1f}", f"{100 * (row[2] / row[3] - 1):+.0f} %"] for row in rows],
    )


def paths(found: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of a text on a busy core by the way that it goes; calls were measured on cores that were busy."""
    bare, own, share = found["bare"], overheads(found), shared(found)
    ways = {
        f"bulk, {tokens} tokens": work(bare["tinysafe"][tokens], bare["hazard"][tokens], SHARE, own[int(tokens)])
        / share
        for tokens in found["bulk"]
    }
    for size, case in found["served"]["ray 1"].items():
        ways[f"Ray, 32 tokens, {'`Check`' if size == '1' else f'`BatchCheck` of {size}'}"] = per_text(case)
    return ways


def prices(found: dict[str, Any]) -> str:
    """What a billion texts a day take, at all times and at the peak; and what 1,000 nodes do."""
    rows = []
    for title, busy_ms in paths(found).items():
        columns = [title, f"{busy_ms:.1f}", f"{1000 / busy_ms:.0f}"]
        for taken in (need(busy_ms), need(busy_ms, peak=PEAK, used=USED)):
            columns += [f"{taken.cores:,.0f}", f"{taken.nodes:,}", f"{taken.dollars:,.0f}"]
        rows.append([*columns, f"{1000 / busy_ms * 1000 * CORES * DAY_S / 1e9:,.0f}"])
    head = ["", "ms of a text on a busy core", "texts/s of it", "cores: average", "nodes", "$ a day"]
    head += [f"cores: peak, {100 * USED:.0f} % used", "nodes", "$ a day", "billion texts a day of 1,000 nodes"]
    return markdown(head, rows)


def bounds(found: dict[str, Any]) -> str:
    """What is done by one process for all: at which load it is busy all the time."""
    few, many = found["parts"]
    part_ms = 1000 * (many["cpu_s"] - few["cpu_s"]) / (many["parts"] - few["parts"])
    rows = [
        [
            "a scan's driver and the head node",
            f"{part_ms:.1f} ms a part of {PART_TEXTS:,} texts",
            f"{1000 / part_ms:,.0f} parts, {1000 / part_ms * PART_TEXTS:,.0f} texts",
        ]
    ]
    for size, case in found["served"]["ray 1"].items():
        call_ms = case["cpu_ms"]["proxy"] * int(size)
        name = "`Check`" if size == "1" else f"`BatchCheck` of {size}"
        rows.append(
            [
                f"one of Ray's proxies, {name}",
                f"{call_ms:.2f} ms a call",
                f"{1000 / call_ms:,.0f} calls, {1000 / call_ms * int(size):,.0f} texts",
            ]
        )
    return markdown(["process", "CPU time", "a second, on one core"], rows)
