"""Reports of several runs -> one table for each system: what each run's models do on the same sets.

Only what was measured on the same data stands in one row: reports of other files under the same name are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.evaluate.rows import DataError
from cascade.evaluate.tables import METRICS, SYSTEMS, Table, shown

# What is shown of a cohort: of both classes, of harmless rows only, of unsafe rows only.
_BOTH = ("f1", "precision", "recall", "fpr", "auroc", "auprc", "recall_at_fpr", "fpr_at_recall", "aurc")
_HARMLESS, _UNSAFE = ("fpr",), ("recall",)


@dataclass(frozen=True)
class Named:
    """A report and what it is called here."""

    name: str
    report: dict[str, Any]


def read_reports(paths: Sequence[Path]) -> list[Named]:
    """Reads ``report.json`` files, or the folders that they lie in; each is called like its folder.

    Raises:
        DataError: a file is no report of ``cascade eval``, two are called the same, or a set is not the same in all.
    """
    found = []
    for given in paths:
        path = given / "report.json" if given.is_dir() else given
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            names = [of_set["set"] for of_set in report["sets"]]
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: no report of cascade eval") from error
        if not all("budgets" in cohort for of_set in report["sets"] for cohort in of_set["cohorts"]):
            raise DataError(f"{path}: made by an older release; run cascade eval again")
        found.append(Named(path.resolve().parent.name, report))
        if not names:
            raise DataError(f"{path}: has no sets")
    for named in found:
        if sum(named.name == other.name for other in found) > 1:
            raise DataError(f"two reports lie in folders called {named.name!r}, so that they cannot be told apart")
    _check_same_data(found)
    return found


def _check_same_data(reports: Sequence[Named]) -> None:
    seen: dict[str, tuple[str, object]] = {}
    for named in reports:
        for of_set in named.report["sets"]:
            data = of_set["files"], named.report["limit"]
            first, before = seen.setdefault(of_set["set"], (named.name, data))
            if before != data:
                raise DataError(f"{named.name} and {first} are of different rows of {of_set['set']}")


def compared(reports: Sequence[Named]) -> Iterator[Table]:
    """The models, then a table for each system."""
    names = tuple(named.name for named in reports)
    yield Table("Models", "what each report measured", ("", *names), tuple(_models(reports)))
    for system, label in SYSTEMS.items():
        rows = dict.fromkeys(row for named in reports for row, _ in _figures(named.report, system))
        cells = [dict(_figures(named.report, system)) for named in reports]
        yield Table(
            label.capitalize(),
            "with 95 % intervals; a dash where a report does not have the set",
            ("", *names),
            tuple((row, *(found.get(row, "–") for found in cells)) for row in rows),
        )


def _models(reports: Sequence[Named]) -> Iterator[tuple[str, ...]]:
    for stage in ("stage1", "stage2"):
        models = [next(m for m in named.report["models"] if m["stage"] == stage) for named in reports]
        yield (stage, *(f"{model['name']}@{model['revision']} ({model['runtime']})" for model in models))
    yield ("policy", *(f"{n.report['policy']['name']}@{n.report['policy']['revision']}" for n in reports))


def _figures(report: dict[str, Any], system: str) -> Iterator[tuple[str, str]]:
    """Row and cell of every figure that a report has of a system."""
    for of_set in report["sets"]:
        name = of_set["set"]
        for cohort in of_set["cohorts"]:
            figures = cohort["systems"][system]
            positives, labelled = cohort["positives"], cohort["labelled"]
            wanted = _HARMLESS if not positives else _UNSAFE if positives == labelled else _BOTH
            for metric in wanted if labelled else ():
                if metric in figures:
                    yield f"{name}, {cohort['cohort']} (n {labelled}): {METRICS[metric]}", shown(figures[metric])
        # The heads that name hazards and categories are each one of the two stages'.
        if system == "stage2" and of_set["hazards"] is not None:
            yield f"{name}: macro-F1 of hazards", shown(of_set["hazards"]["macro_f1"])
    if system == "stage1" and report["categories"] is not None:
        yield "all sets: macro-F1 of categories", shown(report["categories"]["macro_f1"])
        for category in report["categories"]["categories"]:
            yield f"all sets: F1 of {category['name']}", shown(category["f1"])
