"""A tuned policy, or why there is none -> one HTML page with charts that opens without a network.

All charts but the histograms' thresholds are of the half that certifies: the search never saw it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cascade.evaluate import charts as draw
from cascade.evaluate.calibration import brier_score, expected_calibration_error, reliability
from cascade.evaluate.curves import cost_quality, risk_coverage, sureness
from cascade.evaluate.page import page, table
from cascade.tune.curves import final, slices
from cascade.tune.fit import Request, Tuned, best_f1
from cascade.tune.outcomes import NEVER, outcomes
from cascade.tune.sample import Sample


def html(tuned: Tuned, request: Request, command: str) -> str:
    """The page. It has figures and hashes, no text of the data."""
    parts = [*_promises(tuned, request)]
    if tuned.policy is None:
        parts += _infeasible(tuned)
    parts += [
        "<h2>On the half that certifies</h2>",
        *charts(tuned, request),
        *_slices(tuned),
        *_provenance(tuned, request),
    ]
    return page("Certified policy" if tuned.policy else "Infeasible", command, parts)


def charts(tuned: Tuned, request: Request) -> Iterator[str]:
    """All charts, each as a figure."""
    kind = request.policy.route.kind
    rows = tuned.certified.at(np.flatnonzero(tuned.certified.unsafe | tuned.certified.harmless))
    flags = tuned.rules.flags
    threshold1 = max(tuned.rules.low, best_f1(tuned.searched)) if flags == NEVER else flags
    yield _risk_coverage(tuned, rows, threshold1)
    yield _cost_quality(tuned, rows, threshold1, kind)
    yield _reliability(rows)
    marks = {"stage 1 unsafe": threshold1}
    if kind == "band":  # the bar of another kind is no probability of stage 1
        marks = {"low": tuned.rules.low, **marks}
    if tuned.policy:
        marks["high"] = tuned.policy.route.high
    classes = {"harmless": rows.harmless, "unsafe": rows.unsafe}
    yield draw.histogram("Stage 1", draw.counts(rows.stage1, classes), marks)
    yield draw.histogram(
        "Both stages merged", draw.counts(rows.merged, classes), {"unsafe": tuned.rules.unsafe_threshold}
    )


def _risk_coverage(tuned: Tuned, rows: Sample, threshold1: float) -> str:
    done = outcomes(rows, tuned.rules)
    probability, threshold = final(rows, tuned.rules, threshold1, done)
    alone = rows.stage1 >= threshold1
    return draw.risk_coverage(
        {
            "stage 1": risk_coverage(alone != rows.unsafe, sureness(rows.stage1, threshold1)),
            "cascade": risk_coverage(done.unsafe != rows.unsafe, sureness(probability, threshold)),
        }
    )


def _cost_quality(tuned: Tuned, rows: Sample, threshold1: float, kind: str) -> str:
    alone, both = rows.stage1 >= threshold1, rows.merged >= tuned.rules.unsafe_threshold
    curves = cost_quality(alone, both, rows.unsafe, rows.worth)
    done = outcomes(rows, tuned.rules)
    hits, wrong = (done.unsafe & rows.unsafe).sum(), (done.unsafe != rows.unsafe).sum()
    here = float(done.escalated.mean()), float(2 * hits / max(1, 2 * hits + wrong))
    return draw.cost_quality(kind, curves.ranked, curves.random, curves.oracle, here)


def _reliability(rows: Sample) -> str:
    targets = rows.unsafe.astype(np.float64)
    named = {"stage 1": rows.stage1, "stage 2": rows.stage2, "merged": rows.merged}
    return draw.reliability(
        {
            name: (
                [(bin_.predicted, bin_.observed, bin_.weight) for bin_ in reliability(p, targets, bins=10)],
                expected_calibration_error(p, targets),
                brier_score(p, targets),
            )
            for name, p in named.items()
        }
    )


def _slices(tuned: Tuned) -> Iterator[str]:
    found = list(slices(tuned.certified, tuned.rules))
    yield "<h2>By language and length</h2>"
    for title, name, of, among in (
        ("missed unsafe", "missed", "unsafe", "unsafe rows"),
        ("false positives", "false", "harmless", "harmless rows"),
        ("escalated", "escalated", "rows", "rows"),
    ):
        bars = [(part.kind, part.name, getattr(part, of), getattr(part, name)) for part in found]
        yield draw.slices(title, bars, among)
    cells = ((s.kind, s.name, str(s.rows), _percent(s.escalated), _percent(s.missed), _percent(s.false)) for s in found)
    yield table(("slice", "", "rows", "escalated", "missed unsafe", "false positives"), cells)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _promises(tuned: Tuned, request: Request) -> Iterator[str]:
    kind = "Proven" if tuned.policy else "Not proven"
    yield (
        f'<p class="{"yes" if tuned.policy else "no"}">{kind} at delta {request.delta:g} by Learn then Test: binomial '
        f"tail, fixed sequence, {tuned.proof.tested} candidates tested.{_meaning(tuned, request)}</p>"
    )
    yield table(
        ("promise", "of", "wish", "empirical", "failures / n", "bound", "p-value"),
        (
            (wish.name, wish.of, f"{p.wish:g}", f"{p.empirical:.4f}", f"{p.failures} / {p.n}", f"{p.bound:.4f}",
             f"{p.p_value:.3g}")
            for wish, p in zip(request.wishes, tuned.proof.promises, strict=True)
        ),
    )  # fmt: skip


def _meaning(tuned: Tuned, request: Request) -> str:
    """What a proof means; nothing where there is none."""
    if tuned.policy is None:
        return ""
    held = f"with a probability of {1 - request.delta:g} or more"
    return f" All promises hold together {held}, on texts like those of the data."


def _infeasible(tuned: Tuned) -> Iterator[str]:
    yield "<p>The table is of the candidate that keeps the wishes most surely. No policy was written.</p>"
    if tuned.needs:
        yield "<h2>Rows that a proof would take</h2><p>If the share stayed what it is in the half that certifies.</p>"
        yield table(
            ("promise", "of", "share", "there", "needed", "in both halves, about"),
            (
                (need.wish, need.rows_of, f"{need.share:.1%}", str(need.there), *_needed(need.needed))
                for need in tuned.needs
            ),
        )
    if tuned.points:
        names = list(tuned.points[0].limits)
        yield "<h2>Nearest points</h2><p>By the half that is searched: a hint, not a promise.</p>"
        yield table(
            ("gives way", *names),
            ((point.relaxed or "all", *(f"{point.limits[name]:g}" for name in names)) for point in tuned.points),
        )


def _needed(rows: int | None) -> tuple[str, str]:
    return ("no number would do", "–") if rows is None else (str(rows), str(2 * rows))


def _provenance(tuned: Tuned, request: Request) -> Iterator[str]:
    yield "<h2>What it is about</h2>"
    models = [(name, f"{m.name}@{m.revision}", m.files) for name, m in request.models.items()]
    rows = [
        ("data", f"{len(tuned.searched)} + {len(tuned.certified)} rows, seed {request.seed}", request.data),
        *models,
    ]
    if tuned.policy:
        rows.append(("policy", tuned.policy.name, tuned.policy.revision))
    yield table(("", "", "SHA-256 or revision"), rows)
