"""A report -> ``report.md`` and ``report.html``: its tables, and on the page its charts too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from cascade.evaluate import charts, page
from cascade.evaluate.tables import SYSTEMS, Table, common_tables, set_tables, tables

_SHORT = {"stage1": "stage 1", "stage2": "stage 2", "cascade": "cascade"}


def markdown(report: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    lines = ["# Evaluation", "", f"`{report['command']}`", "", *_preamble(report), ""]
    measured = ["## What was measured", "", *(f"- {line}" for line in _provenance(report))]
    return "\n".join(lines) + "\n" + markdown_tables(tables(report)) + "\n".join(measured) + "\n"


def markdown_tables(found: Iterable[Table]) -> str:
    """Tables as Markdown, each under a heading."""
    lines = []
    for table in found:
        lines += [f"## {table.title}", "", table.note, "", _row(table.columns), _row(("---",) * len(table.columns))]
        lines += [*(_row(row) for row in table.rows), ""]
    return "\n".join(lines) + "\n"


def html(report: dict[str, Any]) -> str:
    """The whole report as a page with charts that opens without a network. It has figures and hashes, no text."""
    parts = [f"<p>{escape(line)}</p>" for line in _preamble(report)]
    for of_set in report["sets"]:
        parts += [f"<h2>{escape(of_set['set'])}</h2>", *_charts(report, of_set)]
        parts += [part for table in set_tables(report, of_set) for part in _table(table)]
    parts += [part for table in common_tables(report) for part in _table(table)]
    lines = "".join(f"<li><code>{escape(line.replace('`', ''))}</code></li>" for line in _provenance(report))
    return page.page("Evaluation", report["command"], [*parts, "<h2>What was measured</h2>", f"<ul>{lines}</ul>"])


def _preamble(report: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{report['date']}, {report['cpu']}, seed {report['seed']}; 95 % percentile intervals of {report['resamples']} "
        "bootstrap resamples."
    )
    yield (
        "Only the verdict UNSAFE counts as positive; *strict* counts CONTROVERSIAL too. Rows without a binary label "
        "are left out, except from the escalation rate."
    )
    yield (
        f"Stage 1 alone decides at {report['thresholds']['stage1']}, stage 2 alone at {report['thresholds']['stage2']} "
        "or by a hazard that the policy blocks (calibrated probabilities, from the policy). AUROC and AUPRC rank by "
        "the calibrated probability, AURC by its distance from the threshold; neither sees what a hazard decides."
    )
    if report["limit"] is not None:
        yield f"Only the first {report['limit']} rows of each set were read."
    if report["contamination"] is None:
        yield "Rows were not compared with training sets (`--training`)."


def _charts(report: dict[str, Any], of_set: dict[str, Any]) -> Iterator[str]:
    plots, cohort = of_set["plots"], of_set["cohorts"][0]
    if plots is not None:
        risks = {_SHORT[name]: plot["risk_coverage"] for name, plot in plots.items()}
        yield charts.risk_coverage({name: (risk["points"], risk["area"]) for name, risk in risks.items()})
        curves = cohort["budgets"]["curves"]
        here = cohort["escalation_rate"], cohort["systems"]["cascade"]["f1"]["value"]
        ranked = cohort["budgets"]["ranked_by"]
        yield charts.cost_quality(ranked, curves["ranked"], curves["random"], curves["oracle"], here)
        yield charts.reliability(
            {_SHORT[name]: (plot["reliability"], plot["ece"], plot["brier"]) for name, plot in plots.items()}
        )
        for name, threshold in report["thresholds"].items():
            label = SYSTEMS[name].removesuffix(" alone").capitalize()
            yield charts.histogram(label, plots[name]["histogram"], {"unsafe": threshold})
    found = of_set["slices"]
    for title, share, among in (
        ("recall", "recall", "unsafe rows"),
        ("false positives", "fpr", "harmless rows"),
        ("escalated", "escalation_rate", "rows"),
    ):
        shares = [part[share] if share == "escalation_rate" else part[share]["value"] for part in found]
        if any(share is not None for share in shares):
            named = zip(found, shares, strict=True)
            bars = [(part["kind"], part["name"], _among(part)[among], share) for part, share in named]
            yield charts.slices(title, bars, among)


def _among(part: dict[str, Any]) -> dict[str, int]:
    """How many rows of each kind a slice has, of which its shares are."""
    unsafe, labelled = part["positives"], part["labelled"]
    return {"rows": part["rows"], "unsafe rows": unsafe, "harmless rows": labelled - unsafe}


def _table(table: Table) -> Iterator[str]:
    yield f"<h3>{escape(table.title)}</h3><p>{escape(table.note)}</p>"
    yield page.table(table.columns, table.rows)


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _provenance(report: dict[str, Any]) -> Iterator[str]:
    for model in report["models"]:
        yield f"{model['stage']}: {model['name']} at revision {model['revision']}, {model['runtime']}"
        for path, digest in sorted(model["files"].items()):
            yield f"{model['stage']}: `{path}` sha256 `{digest}`"
    yield f"policy: {report['policy']['name']} at revision {report['policy']['revision']}"
    for package, version in report["versions"].items():
        yield f"{package} {version}"
    for of_set in report["sets"]:
        for path, digest in sorted(of_set["files"].items()):
            yield f"data: `{path}` sha256 `{digest}`"
    for file in (report["contamination"] or {"training": []})["training"]:
        yield f"training: `{file['file']}` sha256 `{file['sha256']}`, {file['rows']} rows"
