"""What is told of a calibration: by head, before and after, in the manifest's figures, in the card and on the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cascade.evaluate.calibration import expected_calibration_error
from stages.stage import Calibration, Platt, Window, WindowScores
from stages.taxonomy import TINYSAFE_CATEGORIES
from tests.fakes import FakeStage, word_id
from training.calibration_report import COLUMNS, markdown, methods_of, rows_of
from training.data.mix import Example
from training.package import calibrate, diagrams_of

ROWS = 1200


class TooSure(FakeStage):
    """Its logits are twice what the labels, which are drawn here, bear out; it has seven heads of its own."""

    def __init__(self, **options: object) -> None:
        super().__init__("tinysafe", calibration=Calibration(Platt(), labels=(Platt(),) * 7), **options)  # type: ignore[arg-type]
        rng = np.random.default_rng(0)
        logits = rng.normal(-0.5, 1.5, (ROWS, 8))
        self.drawn = (rng.random((ROWS, 8)) < 1 / (1 + np.exp(-logits))).astype(float)
        self.by_word = {word_id(f"row{number}"): 2 * row for number, row in enumerate(logits)}

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        rows = [next((self.by_word[i] for i in window.ids if i in self.by_word), np.zeros(8)) for window in windows]
        return [WindowScores(float(unsafe), np.array(labels)) for unsafe, *labels in rows]

    def examples(self) -> list[Example]:
        """The rows; nothing is known of the last label, and one has a single carrier."""
        cells = self.drawn[:, 1:].copy()
        cells[:, 6], cells[:, 5] = np.nan, 0.0
        cells[0, 5] = 1.0
        return [
            Example(f"row{number}", "a", "set", "en", float(self.drawn[number, 0]), tuple(cells[number].tolist()))
            for number in range(ROWS)
        ]


def test_every_head_is_told_before_and_after(tmp_path: Path) -> None:
    stage, page = TooSure(), diagrams_of(tmp_path / "model")
    numbers, figures = calibrate(stage, stage.examples(), {"a": 1.0}, documents=2, diagrams=page)
    for head in ("unsafe", *TINYSAFE_CATEGORIES[:5]):
        of = {name: figures[f"calibration.{head}.{name}"] for name in ("ece_before", "ece_after", "brier_before")}
        assert of["ece_after"] < 0.7 * of["ece_before"]
        assert figures[f"calibration.{head}.brier_after"] < of["brier_before"]
        losses = {kind: figures[f"calibration.{head}.nll_{kind}"] for kind in ("temperature", "platt", "isotonic")}
        assert min(losses.values()) > 0.3
        assert losses["temperature"] < losses["isotonic"] + 0.001
    assert figures["calibration.unsafe.ece_after"] == figures["ece_after"], "the verdict's are told as they were, too"
    logits = np.array([stage.by_word[word_id(f"row{n}")][1] for n in range(ROWS)])
    raw = expected_calibration_error(1 / (1 + np.exp(-logits)), stage.drawn[:, 1])
    assert figures[f"calibration.{TINYSAFE_CATEGORIES[0]}.ece_before"] == pytest.approx(raw, abs=1e-4)
    rare, unknown = TINYSAFE_CATEGORIES[5:]
    assert f"calibration.{rare}.ece_after" in figures
    assert f"calibration.{rare}.nll_platt" not in figures, "there is nothing to choose by"
    assert not any(name.startswith(f"calibration.{unknown}.") for name in figures)

    html = page.read_text()
    assert page.parent == tmp_path, "not in the model folder"
    assert html.count("<svg") == 7
    assert not re.search(r"https?://|<script", html)
    assert all(f"row{number} " not in html for number in range(3))

    methods = methods_of(TINYSAFE_CATEGORIES, numbers)
    assert methods["unsafe"] == "temperature"
    assert methods[rare] == methods[unknown] == "none"
    table = markdown(rows_of(figures, methods)).splitlines()
    assert len(table) == 2 + 7
    assert table[2].startswith("| unsafe | temperature | 0.")
    assert all(line.count("|") == len(COLUMNS) + 1 for line in table)
    assert markdown(rows_of({"ece_after": 0.1}, methods)) == "", "an older manifest does not tell"


def test_a_stage_that_does_not_judge_has_no_verdict_to_tell_of() -> None:
    stage = TooSure(judges=False)
    numbers, figures = calibrate(stage, stage.examples(), {"a": 1.0})
    assert (numbers.unsafe.slope, numbers.unsafe.bias) == (1.0, 0.0)
    assert not any(name.startswith("calibration.unsafe.") for name in figures)
    assert figures[f"calibration.{TINYSAFE_CATEGORIES[0]}.ece_after"] < 0.06
