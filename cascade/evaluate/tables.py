"""A report -> tables of text: the same ones for the terminal, for ``report.md`` and for ``report.html``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

METRICS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "fpr": "FPR",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "recall_at_fpr": "recall at 1 % FPR",
    "fpr_at_recall": "FPR at 95 % recall",
    "aurc": "AURC",
}
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
        yield from set_tables(report, of_set)
    yield from common_tables(report)


def common_tables(report: dict[str, Any]) -> Iterator[Table]:
    """Those of all sets together."""
    if report["categories"] is not None and len(report["sets"]) > 1:
        yield _category_table("All sets", report["categories"])
    if report["contamination"] is not None:
        yield _contamination_table(report["contamination"])


def set_tables(report: dict[str, Any], of_set: dict[str, Any]) -> Iterator[Table]:
    """Those of one set."""
    name = of_set["set"]
    for cohort in of_set["cohorts"]:
        yield _cohort_table(name, cohort)
        if cohort["budgets"] is not None:
            yield _budget_table(name, cohort, report["cpu_hour_price"])
        for published in cohort["peers"]:
            yield _peer_table(name, cohort, published)
    if of_set["hazards"] is not None:
        yield _hazard_table(name, of_set["hazards"])
    if of_set["categories"] is not None:
        yield _category_table(name, of_set["categories"])
    if of_set["slices"]:
        yield _slice_table(name, of_set["slices"])


def shown(estimate: dict[str, float | None]) -> str:
    """An estimate as ``0.731 [0.702, 0.758]``; a dash where it is undefined."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def percent(value: float | None) -> str:
    """A share as ``19.1%``; a dash where there is none."""
    return "–" if value is None else f"{value:.1%}"


def _cohort_table(name: str, cohort: dict[str, Any]) -> Table:
    note = f"n {cohort['labelled']}, positives {cohort['positives']}"
    if cohort["labelled"] != cohort["rows"]:
        note += f", {cohort['rows'] - cohort['labelled']} rows without a binary label"
    note += f", escalated {percent(cohort['escalation_rate'])}"
    if cohort["f1_gain_over_stage1"]["value"] is not None:
        note += f", F1 of the cascade less that of stage 1 {shown(cohort['f1_gain_over_stage1'])}"
    systems = [cohort["systems"][system] for system in SYSTEMS]
    rows = tuple(
        (label, *(shown(figures[metric]) if metric in figures else "" for figures in systems))
        for metric, label in METRICS.items()
    )
    return Table(f"{name}, {cohort['cohort']}", note, ("", *SYSTEMS.values()), rows)


def _budget_table(name: str, cohort: dict[str, Any], price: float | None) -> Table:
    budgets = cohort["budgets"]
    note = (
        f"what is escalated first is chosen by {budgets['ranked_by']}; CPU-seconds are those of 1,000 texts, stages, "
        "views and tokenizers"
    )
    columns: tuple[str, ...] = ("", "escalated", "F1", "recall", "FPR", "CPU-s")
    rows: list[tuple[str, ...]] = [
        (
            system["system"],
            percent(system["escalated"]),
            *(shown(system[metric]) for metric in ("f1", "recall", "fpr")),
            _number(system["cpu_seconds"], 2),
        )
        for system in budgets["systems"]
    ]
    if price is not None:
        note += f", priced at {price:g} an hour"
        columns = (*columns, "price")
        rows = [(*row, _number(system["price"], 5)) for row, system in zip(rows, budgets["systems"], strict=True)]
    return Table(f"{name}, {cohort['cohort']}: what escalating buys", note, columns, tuple(rows))


def _peer_table(name: str, cohort: dict[str, Any], published: dict[str, Any]) -> Table:
    metric = published["metric"]
    ours = [
        (f"here: {label}", shown(cohort["systems"][system][metric]))
        for system, label in SYSTEMS.items()
        if metric in cohort["systems"][system]
    ]
    how = "of a file known to hold them" if published["known_file"] else "by the set's name and their number only"
    theirs = sorted(published["peers"].items(), key=lambda peer: -peer[1])
    return Table(
        f"{name}, {cohort['cohort']}: published {METRICS[metric]}",
        f"of the same {cohort['rows']} rows, {how}, by {published['source']}",
        ("", METRICS[metric]),
        (*ours, *((peer, f"{value:.3f}") for peer, value in theirs)),
    )


def _hazard_table(name: str, hazards: dict[str, Any]) -> Table:
    note = f"n {hazards['rows']}, macro-F1 {shown(hazards['macro_f1'])} over {len(hazards['hazards'])} hazards"
    rows = [_hazard_row(hazard["slug"], hazard) for hazard in hazards["hazards"]]
    if (left_out := hazards["left_out"]) is not None:
        rows.append(_hazard_row(f"({left_out['slug']}, not in the mean)", left_out))
    return Table(f"{name}, hazards by stage 2", note, ("hazard", "n", "precision", "recall", "F1"), tuple(rows))


def _hazard_row(label: str, hazard: dict[str, Any]) -> tuple[str, ...]:
    return (label, str(hazard["rows"]), shown(hazard["precision"]), shown(hazard["recall"]), shown(hazard["f1"]))


def _category_table(name: str, found: dict[str, Any]) -> Table:
    note = f"n {found['rows']}, macro-F1 {shown(found['macro_f1'])} over {len(found['categories'])} categories"
    rows = tuple(
        (
            category["name"],
            f"{category['positives']} of {category['known']}",
            *(shown(category[metric]) for metric in ("precision", "recall", "f1", "auprc")),
        )
        for category in found["categories"]
    )
    return Table(f"{name}, TinySafe's categories", note, ("category", "n", "precision", "recall", "F1", "AUPRC"), rows)


def _slice_table(name: str, found: list[dict[str, Any]]) -> Table:
    rows = tuple(
        (
            f"{part['kind']} {part['name']}",
            f"{part['positives']} of {part['labelled']}",
            percent(part["escalation_rate"]),
            *(shown(part[metric]) for metric in ("f1", "recall", "fpr")),
        )
        for part in found
    )
    note = "what the cascade does with each part of at least ten rows; lengths are stage 1's tokens"
    return Table(f"{name}, by language, script and length", note, ("", "n", "escalated", "F1", "recall", "FPR"), rows)


def _contamination_table(found: dict[str, Any]) -> Table:
    rows = tuple(
        (
            name,
            str(of_set["rows"]),
            *(str(number) for number in of_set["kinds"].values()),
            ", ".join(f"{file} {number}" for file, number in of_set["training"].items()) or "–",
        )
        for name, of_set in found["sets"].items()
    )
    note = (
        f"rows that are near one of the {sum(file['rows'] for file in found['training'])} rows of "
        f"{len(found['training'])} training files: the same words, half of the 8-grams, or similar if short"
    )
    return Table("Contamination", note, ("set", "rows", "equal", "8-grams", "similar", "training files"), rows)


def _number(value: float | None, digits: int) -> str:
    return "not measured" if value is None else f"{value:.{digits}f}"
