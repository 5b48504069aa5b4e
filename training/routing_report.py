"""Compares routers on rows that none of them was fitted on: *worths, stakes* -> F1 over cost: JSON, tables, charts."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.evaluate import charts
from cascade.evaluate.page import page
from cascade.tune.routing import Stakes
from cascade.tune.sample import Floats

SHARES = (0.05, 0.10, 0.15, 0.20, 0.30)  # escalated
AT = 0.20  # where routers are compared by a bootstrap
DRAWS = 300
_POINTS = 101  # of a curve in the JSON
RANDOM, ORACLE = "random", "oracle"


def compare(stakes: Mapping[str, Stakes], worths: Mapping[str, Mapping[str, Floats]], budget: float) -> dict[str, Any]:
    """All figures.

    Args:
        stakes: of each kind of traffic.
        worths: for each kind of traffic what each router, "band" among them, thinks of its rows.
        budget: the share at which the band is what the others have to come up to.
    """
    return {kind: _of_kind(part, worths[kind], budget) for kind, part in stakes.items()}


def _of_kind(stakes: Stakes, worths: Mapping[str, Floats], budget: float) -> dict[str, Any]:
    gain = stakes.gain[~stakes.forced]
    curves = {name: stakes.f1_over(worth) for name, worth in worths.items()}
    curves |= {ORACLE: stakes.f1_over(stakes.oracle()), RANDOM: stakes.random_f1()}
    routing = {name: stakes.routing_f1_over(worth) for name, worth in worths.items()}
    n = len(stakes)
    goal = float(curves["band"][round(budget * n)])
    return {
        "rows": n,
        "unsafe": int(stakes.unsafe.sum()),
        "mended": int((gain > 0).sum()),
        "spoilt": int((gain < 0).sum()),
        "forced": round(float(stakes.forced.mean()), 4),
        "f1_alone": round(float(curves["band"][0]), 4),
        "f1_always": round(float(curves["band"][-1]), 4),
        "band_f1_at_budget": round(goal, 4),
        "routers": {
            name: {
                "f1": {f"{share:.2f}": round(float(curve[round(share * n)]), 4) for share in SHARES},
                "f1_best": round(float(curve.max()), 4),
                "share_for_f1_of_band": _share(curve, goal),
                "routing_f1": {
                    f"{share:.2f}": round(float(routing[name][round(share * n)]), 4) for share in SHARES
                } if name in routing else None,
                "routing_f1_best": round(float(routing[name].max()), 4) if name in routing else None,
                "curve": _curve(curve),
            }
            for name, curve in curves.items()
        },
        "gain_over_band": {
            name: _bootstrap(stakes, worth, worths["band"]) for name, worth in worths.items() if name != "band"
        },
    }  # fmt: skip


def _share(curve: Floats, goal: float) -> float | None:
    """The smallest share at which the router is as good as that; None if it never is."""
    reached = np.flatnonzero(curve >= goal - 1e-9)
    return round(float(reached[0]) / (len(curve) - 1), 4) if len(reached) else None


def _curve(curve: Floats) -> list[list[float]]:
    kept = np.unique(np.linspace(0, len(curve) - 1, min(_POINTS, len(curve))).astype(int))
    return [[round(float(i) / (len(curve) - 1), 4), round(float(curve[i]), 4)] for i in kept]


def _bootstrap(stakes: Stakes, worth: Floats, band: Floats) -> list[float]:
    """F1 at :data:`AT` less that of the band: mean and 95 % interval over draws of the rows."""
    rng = np.random.default_rng(0)
    n = len(stakes)
    found = []
    for _ in range(DRAWS):
        rows: NDArray[np.int_] = rng.integers(0, n, n)
        drawn = stakes.at(rows)
        at = round(AT * n)
        found.append(drawn.f1_over(worth[rows])[at] - drawn.f1_over(band[rows])[at])
    return [round(float(value), 4) for value in (np.mean(found), *np.quantile(found, [0.025, 0.975]))]


def html(found: Mapping[str, Any], heading: str) -> str:
    """The curves of all comparisons as a page that opens without a network: F1 over the share escalated, by traffic."""
    parts = [f"<p>{escape(heading)} Rows are judged by routers that were fitted without them.</p>"]
    for title, kinds in found.items():
        parts.append(f"<h2>{escape(title[:1].upper() + title[1:])}</h2>")
        for kind, part in kinds.items():
            curves = {name: [(x, y) for x, y in router["curve"]] for name, router in part["routers"].items()}
            parts.append(charts.routers(f"{kind}, {part['rows']} rows", curves))
    return page("Routers", "python -m training.fit_delegation", parts)


def markdown(title: str, found: Mapping[str, Any]) -> str:
    """The figures of one comparison as tables."""
    lines = [f"## {title}", ""]
    for kind, part in found.items():
        lines += [
            f"**{kind}**: {part['rows']} rows, {part['unsafe']} unsafe; of the verdicts that are a router's to "
            f"escalate, stage 2 mends {part['mended']} and spoils {part['spoilt']}. F1 of stage 1 alone "
            f"{part['f1_alone']:.3f}, of both on every text {part['f1_always']:.3f}. {part['forced']:.1%} are "
            "escalated whatever a router thinks.",
            "",
            "| router | " + " | ".join(f"F1 at {share:.0%}" for share in SHARES)
            + f" | best F1 | share for the band's F1 of {part['band_f1_at_budget']:.3f} | routing F1, best "
            f"| routing F1 at {AT:.0%} | F1 over the band at {AT:.0%} |",
            "| --- |" + " --- |" * (len(SHARES) + 5),
        ]  # fmt: skip
        for name, router in part["routers"].items():
            gain = part["gain_over_band"].get(name)
            cells = [
                *(f"{value:.3f}" for value in router["f1"].values()),
                f"{router['f1_best']:.3f}",
                "never" if router["share_for_f1_of_band"] is None else f"{router['share_for_f1_of_band']:.1%}",
                "" if router["routing_f1"] is None else f"{router['routing_f1_best']:.3f}",
                "" if router["routing_f1"] is None else f"{router['routing_f1'][f'{AT:.2f}']:.3f}",
                "" if gain is None else f"{gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]",
            ]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)
