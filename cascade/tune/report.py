"""A tuned policy, or why there is none -> one HTML page with charts that opens without a network.

All charts but the histograms' thresholds are of the half that certifies: the search never saw it.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from cascade.evaluate.calibration import brier_score, expected_calibration_error, reliability
from cascade.tune.curves import cost_quality, final, risk_coverage, slices
from cascade.tune.fit import Request, Tuned, best_f1
from cascade.tune.outcomes import outcomes
from cascade.tune.sample import Floats, Sample
from cascade.tune.svg import COLOURS, Chart, table

BLUE, ORANGE, GREEN, PURPLE, GREY = COLOURS
_BINS = 30
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#111;background:#fff}"
    "table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.25em .6em;text-align:left}"
    "figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}figcaption{max-width:430px;color:#444}"
    "code{overflow-wrap:anywhere}.no{color:#b91c1c}.yes{color:#047857}"
)


def html(tuned: Tuned, request: Request, command: str) -> str:
    """The page. It has figures and hashes, no text of the data."""
    title = "Certified policy" if tuned.policy else "Infeasible"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
        f"</head><body><h1>{title}</h1><p><code>{escape(command)}</code></p>",
        *_promises(tuned, request),
    ]
    if tuned.policy is None:
        parts += _infeasible(tuned)
    parts += ["<h2>On the half that certifies</h2>", *charts(tuned), *_slices(tuned), *_provenance(tuned, request)]
    return "\n".join(parts) + "\n</body></html>\n"


def charts(tuned: Tuned) -> Iterator[str]:
    """All charts, each as a figure."""
    rows = tuned.certified.at(np.flatnonzero(tuned.certified.unsafe | tuned.certified.harmless))
    threshold1 = max(tuned.rules.low, best_f1(tuned.searched))
    yield _risk_coverage(tuned, rows, threshold1)
    yield _cost_quality(tuned, rows, threshold1)
    yield _reliability(rows)
    marks = {"low": tuned.rules.low, "stage 1 unsafe": threshold1}
    if tuned.policy:
        marks["high"] = tuned.policy.route.high
    yield _histogram("Stage 1", rows.stage1, rows, marks)
    yield _histogram("Both stages merged", rows.merged, rows, {"unsafe": tuned.rules.unsafe_threshold})


def _risk_coverage(tuned: Tuned, rows: Sample, threshold1: float) -> str:
    done = outcomes(rows, tuned.rules)
    probability, threshold = final(rows, tuned.rules, threshold1, done)
    alone = rows.stage1 >= threshold1
    curves = {
        "stage 1": risk_coverage(rows.stage1, alone, rows.unsafe, np.full(len(rows), threshold1)),
        "cascade": risk_coverage(probability, done.unsafe, rows.unsafe, threshold),
    }
    highest = max(y for points, _ in curves.values() for _, y in points)
    chart = Chart(
        "Risk over coverage", "share of texts, the surest first", "share decided wrongly", y=(0, highest or 1)
    )
    for (name, (points, _)), colour in zip(curves.items(), (ORANGE, BLUE), strict=True):
        chart.line(points, name, colour)
    areas = ", ".join(f"{name} {area:.4f}" for name, (_, area) in curves.items())
    return _figure(chart, f"Area under the curve (AURC): {areas}.")


def _cost_quality(tuned: Tuned, rows: Sample, threshold1: float) -> str:
    curves = cost_quality(rows, tuned.rules, threshold1)
    done = outcomes(rows, tuned.rules)
    chart = Chart("Quality over cost", "share escalated", "F1")
    chart.line(curves.oracle, "oracle", GREEN, dashed=True)
    chart.line(curves.band, "band", BLUE)
    chart.line(curves.random, "random", GREY, dashed=True)
    hits, wrong = (done.unsafe & rows.unsafe).sum(), (done.unsafe != rows.unsafe).sum()
    f1, share = float(2 * hits / max(1, 2 * hits + wrong)), float(done.escalated.mean())
    chart.dot(share, f1, f"this policy: F1 {f1:.3f} at {share:.1%}", ORANGE, 5)
    chart.legend("this policy", ORANGE)
    return _figure(chart, f"This policy escalates {share:.1%} of the labelled rows and has an F1 of {f1:.3f}.")


def _reliability(rows: Sample) -> str:
    chart = Chart("Reliability", "predicted probability", "share that is unsafe")
    chart.line([(0, 0), (1, 1)], "", GREY, dashed=True)
    targets, notes = rows.unsafe.astype(np.float64), []
    named = {"stage 1": rows.stage1, "stage 2": rows.stage2, "merged": rows.merged}
    for (name, p), colour in zip(named.items(), (ORANGE, PURPLE, BLUE), strict=True):
        bins = reliability(p, targets, bins=10)
        chart.line([(bin_.predicted, bin_.observed) for bin_ in bins], name, colour)
        for bin_ in bins:
            label = f"{name}: {bin_.predicted:.2f} said, {bin_.observed:.2f} were, {bin_.weight:.0f} rows"
            chart.dot(bin_.predicted, bin_.observed, label, colour, 3)
        notes.append(f"{name}: ECE {expected_calibration_error(p, targets):.3f}, Brier {brier_score(p, targets):.3f}")
    return _figure(chart, "; ".join(notes) + ". What lies below the diagonal is too alarmed.")


def _histogram(name: str, scores: Floats, rows: Sample, thresholds: dict[str, float]) -> str:
    edges = np.linspace(0, 1, _BINS + 1)
    counts = {label: np.histogram(scores[part], edges)[0] for label, part in _classes(rows).items()}
    shares = {label: found / max(1, found.sum()) for label, found in counts.items()}
    top = max(float(share.max()) for share in shares.values())
    chart = Chart(f"{name}: scores", "calibrated probability", "share of its class", y=(0, top or 1))
    for (label, share), colour in zip(shares.items(), (GREEN, ORANGE), strict=True):
        for left, right, height, n in zip(edges, edges[1:], share, counts[label], strict=False):
            if n:
                chart.bar(float(left), float(right), float(height), f"{label}, {left:.2f}–{right:.2f}: {n}", colour)
        chart.legend(f"{label} ({counts[label].sum()})", colour)
    for label, at in thresholds.items():
        chart.threshold(at, f"{label} {at:.3f}")
    return _figure(chart, f"{name}: calibrated probabilities by label, with the thresholds.")


def _classes(rows: Sample) -> dict[str, np.typing.NDArray[np.bool_]]:
    return {"harmless": rows.harmless, "unsafe": rows.unsafe}


def _slices(tuned: Tuned) -> Iterator[str]:
    found = list(slices(tuned.certified, tuned.rules))
    yield "<h2>By language and length</h2>"
    for title, name in (("missed unsafe", "missed"), ("false positives", "false"), ("escalated", "escalated")):
        bars = [(part, float(value)) for part in found if (value := getattr(part, name)) is not None]
        top = max((value for _, value in bars), default=0.0) or 1.0
        chart = Chart(title.capitalize(), "", f"share {title}", x=(0, max(1, len(bars))), y=(0, top), height=220)
        chart.categories = tuple(part.name for part, _ in bars)
        for at, (part, value) in enumerate(bars):
            chart.bar(at + 0.1, at + 0.9, value, f"{part.kind} {part.name}: {value:.1%} of {part.rows} rows", BLUE)
        yield _figure(chart, f"{title.capitalize()}, by language and by length in tokens.")
    cells = ((s.kind, s.name, str(s.rows), _percent(s.escalated), _percent(s.missed), _percent(s.false)) for s in found)
    yield table(("slice", "", "rows", "escalated", "missed unsafe", "false positives"), cells)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _promises(tuned: Tuned, request: Request) -> Iterator[str]:
    kind = "Proven" if tuned.policy else "Not proven"
    yield (
        f'<p class="{"yes" if tuned.policy else "no"}">{kind} at delta {request.delta:g} by Learn then Test: binomial '
        f"tail, fixed sequence, {tuned.proof.tested} candidates tested. All promises hold together with a probability "
        f"of {1 - request.delta:g} or more, on texts like those of the data.</p>"
    )
    yield table(
        ("promise", "of", "wish", "empirical", "failures / n", "bound", "p-value"),
        (
            (wish.name, wish.of, f"{p.wish:g}", f"{p.empirical:.4f}", f"{p.failures} / {p.n}", f"{p.bound:.4f}",
             f"{p.p_value:.3g}")
            for wish, p in zip(request.wishes, tuned.proof.promises, strict=True)
        ),
    )  # fmt: skip


def _infeasible(tuned: Tuned) -> Iterator[str]:
    yield "<p>The table is of the candidate that keeps the wishes most surely. No policy was written.</p>"
    if tuned.points:
        names = list(tuned.points[0].limits)
        yield "<h2>Nearest points</h2><p>By the half that is searched: a hint, not a promise.</p>"
        yield table(
            ("gives way", *names),
            ((point.relaxed or "all", *(f"{point.limits[name]:g}" for name in names)) for point in tuned.points),
        )


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


def _figure(chart: Chart, caption: str) -> str:
    return f"<figure>{chart.svg()}<figcaption>{escape(caption)}</figcaption></figure>"
