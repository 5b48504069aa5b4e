"""A report -> tables of text: the same ones for the terminal and for ``report.md``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

METRICS = {"precision": "precision", "recall": "recall", "f1": "F1", "fpr": "FPR", "auroc": "AUROC", "auprc": "AUPRC"}
SYSTEMS = {
    "stage1": "stage 1 alone",
    "stage2": "stage 2 alone",
    "cascade": "cascade",
    "cascade_strict": "cascade, strict",
}


@dataclass(frozen=True)
class Table:
    """A table of text with a title and a line above it."""

    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: dict[str, Any]) -> Iterator[Table]:
    """All tables of a report, in order."""
    for of_set in report["sets"]:
        for cohort in of_set["cohorts"]:
            yield _cohort_table(of_set["set"], cohort)
        if of_set["hazards"] is not None:
            yield _hazard_table(of_set["set"], of_set["hazards"])


def markdown(report: dict[str, Any]) -> str:
    """The whole report as Markdown."""
    lines = ["# Evaluation", "", f"`{report['command']}`", ""]
    lines += [
        f"{report['date']}, {report['cpu']}, seed {report['seed']}; 95 % percentile intervals of {report['resamples']} "
        "bootstrap resamples.",
        "Only the verdict UNSAFE counts as positive; *strict* counts CONTROVERSIAL too. Rows without a binary label "
        "are left out, except from the escalation rate.",
        f"Stage 1 alone decides at {report['thresholds']['stage1']}, stage 2 alone at {report['thresholds']['stage2']} "
        "(calibrated probabilities, from the policy). AUROC and AUPRC rank by the calibrated probability.",
    ]
    if report["limit"] is not None:
        lines.append(f"Only the first {report['limit']} rows of each set were read.")
    lines.append("")
    for table in tables(report):
        lines += [f"## {table.title}", "", table.note, "", _row(table.columns), _row(("---",) * len(table.columns))]
        lines += [*(_row(row) for row in table.rows), ""]
    lines += ["## What was measured", "", *_provenance(report)]
    return "\n".join(lines) + "\n"


def shown(estimate: dict[str, float | None]) -> str:
    """An estimate as ``0.731 [0.702, 0.758]``; a dash where it is undefined."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _cohort_table(name: str, cohort: dict[str, Any]) -> Table:
    rate = cohort["escalation_rate"]
    note = f"n {cohort['labelled']}, positives {cohort['positives']}"
    if cohort["labelled"] != cohort["rows"]:
        note += f", {cohort['rows'] - cohort['labelled']} rows without a binary label"
    note += f", escalated {'–' if rate is None else f'{rate:.1%}'}"
    if cohort["f1_gain_over_stage1"]["value"] is not None:
        note += f", F1 of the cascade less that of stage 1 {shown(cohort['f1_gain_over_stage1'])}"
    systems = [cohort["systems"][system] for system in SYSTEMS]
    rows = tuple(
        (label, *(shown(figures[metric]) if metric in figures else "" for figures in systems))
        for metric, label in METRICS.items()
    )
    return Table(f"{name}, {cohort['cohort']}", note, ("", *SYSTEMS.values()), rows)


def _hazard_table(name: str, hazards: dict[str, Any]) -> Table:
    note = f"n {hazards['rows']}, macro-F1 {shown(hazards['macro_f1'])} over {len(hazards['hazards'])} hazards"
    rows = [_hazard_row(hazard["slug"], hazard) for hazard in hazards["hazards"]]
    if (left_out := hazards["left_out"]) is not None:
        rows.append(_hazard_row(f"({left_out['slug']}, not in the mean)", left_out))
    return Table(f"{name}, hazards by stage 2", note, ("hazard", "n", "precision", "recall", "F1"), tuple(rows))


def _hazard_row(label: str, hazard: dict[str, Any]) -> tuple[str, ...]:
    return (label, str(hazard["rows"]), shown(hazard["precision"]), shown(hazard["recall"]), shown(hazard["f1"]))


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _provenance(report: dict[str, Any]) -> Iterator[str]:
    for model in report["models"]:
        yield f"- {model['stage']}: {model['name']} at revision {model['revision']}, {model['runtime']}"
        for path, digest in sorted(model["files"].items()):
            yield f"  - `{path}` sha256 `{digest}`"
    yield f"- policy: {report['policy']['name']} at revision {report['policy']['revision']}"
    for package, version in report["versions"].items():
        yield f"- {package} {version}"
    for of_set in report["sets"]:
        for path, digest in sorted(of_set["files"].items()):
            yield f"- data: `{path}` sha256 `{digest}`"
