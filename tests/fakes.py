"""Stand-ins for the models: words decide the scores, the windows are real.

``FakeStage`` reads white-space separated words. Each window's unsafe logit is that of its most unsafe word: ``unsure``
-1.0 (probability 0.27), ``bad`` 1.0 (0.73), ``terrible`` 5.0 (0.99), any other word -4.0 (0.02). A word that names a
label, for instance ``hate``, gives that label the logit 3.0 (0.95); without it the label has -5.0 (0.01).
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cascade.batching import Batcher
from cascade.cache import Answers
from cascade.limits import Limits
from cascade.pipeline import Pipeline
from cascade.policy import Policy, PolicyStore, parse
from stages.stage import Calibration, Encoding, ModelInfo, Platt, Window, WindowScores
from stages.taxonomy import HAZARD_SLUGS, TINYSAFE_CATEGORIES, TINYSAFE_VERSION, VERSION

CALM = -4.0
WORDS = {"unsure": -1.0, "bad": 1.0, "terrible": 5.0}
LABEL_ON, LABEL_OFF = 3.0, -5.0
CLS, SEP = 1, 2


def word_id(word: str) -> int:
    """The token id of a word: the same in every process, for every stage."""
    return 3 + zlib.crc32(word.lower().strip(".,;:!?\"'").encode("utf-8", "surrogatepass"))


class FakeStage:
    """A deterministic stage.

    Args:
        kind: "tinysafe" (7 categories) or "hazard" (14 slugs).
        words: unsafe logits by word, in place of ``WORDS``.
        window_words: words in a window; neighbours share a quarter of them.
        delay_s: how long each call of ``score`` takes.
        fail: called with the windows of each call; what it returns is raised, None raises nothing.
        calibration: in place of one that changes nothing.
        labels: in place of those of its kind; ``label_words`` False leaves them all off.
        judges: see :class:`stages.stage.ModelInfo`.
    """

    def __init__(
        self,
        kind: str = "tinysafe",
        *,
        words: Mapping[str, float] | None = None,
        window_words: int = 16,
        delay_s: float = 0.0,
        fail: Callable[[Sequence[Window]], BaseException | None] | None = None,
        calibration: Calibration | None = None,
        labels: tuple[str, ...] | None = None,
        label_words: bool = True,
        judges: bool = True,
    ) -> None:
        if labels is None:
            labels = {"tinysafe": TINYSAFE_CATEGORIES, "hazard": HAZARD_SLUGS}[kind]
        self.info = ModelInfo(
            name=f"fake-{kind}",
            kind=kind,
            revision="r1",
            files={"model.onnx": "0" * 64},
            taxonomy={"tinysafe": TINYSAFE_VERSION, "hazard": VERSION}[kind],
            labels=labels,
            device="cpu",
            runtime="fake",
            licence="none",
            window_tokens=window_words + 2,
            scripts=("Latin",),
            judges=judges,
        )
        self.calibration = calibration or Calibration(labels=tuple(Platt() for _ in labels))
        self.delay_s = delay_s
        self.fail = fail
        self.calls: list[list[Window]] = []
        self._words = {word_id(word): logit for word, logit in (WORDS if words is None else words).items()}
        self._labels = {word_id(label): index for index, label in enumerate(labels) if label_words}
        self._window_words = window_words
        self._lock = threading.Lock()

    def encode(self, text: str) -> Encoding:
        words = list(re.finditer(r"\S+", text))
        size, step = self._window_words, max(1, self._window_words * 3 // 4)
        first = [0]
        while first[-1] + size < len(words):
            first.append(first[-1] + step)
        windows = []
        for number, index in enumerate(first):
            inside = words[index : index + size]
            start = inside[0].start() if number else 0
            end = inside[-1].end() if index + size < len(words) else len(text)
            windows.append(Window((CLS, *(word_id(word.group()) for word in inside), SEP), start, end))
        return Encoding(tuple(windows), tokens=len(words))

    def score(self, windows: Sequence[Window]) -> list[WindowScores]:
        with self._lock:
            self.calls.append(list(windows))
        if self.delay_s:
            time.sleep(self.delay_s)
        if self.fail and (error := self.fail(windows)):
            raise error
        return [self._score(window) for window in windows]

    def _score(self, window: Window) -> WindowScores:
        labels = np.full(len(self.info.labels), LABEL_OFF)
        for token in window.ids:
            if token in self._labels:
                labels[self._labels[token]] = LABEL_ON
        return WindowScores(max(self._words.get(token, CALM) for token in window.ids), labels)


def fake_policy(toml: str = "", *, name: str = "default") -> Policy:
    """A policy without audits and with the plain merge rule "max", so that nothing is left to chance; ``toml`` is more.

    A table of ``toml`` replaces the one given here.
    """
    tables = {"[route]": "audit_rate = 0.0", "[merge]": 'rule = "max"\nsegments = "max"'}
    given = "".join(f"{table}\n{keys}\n" for table, keys in tables.items() if table not in toml)
    return parse(f'schema = 1\nname = "{name}"\n{toml}\n{given}')


def fake_pipeline(
    stage1: FakeStage | None = None,
    stage2: FakeStage | None = None,
    *,
    policies: Sequence[Policy] = (),
    limits: Limits = Limits(),  # noqa: B008 - frozen
    alone: bool = False,
    threads: int = 1,
    queue: int = 8192,
    answers: Answers | None = None,
) -> Pipeline:
    """A pipeline of fake stages; ``alone`` leaves stage 2 out, ``queue`` windows may wait for a stage."""
    first = Batcher(stage1 or FakeStage("tinysafe"), threads=threads, max_queued_windows=queue)
    second = None
    if not alone:
        second = Batcher(stage2 or FakeStage("hazard"), threads=threads, max_queued_windows=queue)
    return Pipeline(first, second, PolicyStore(policies or [fake_policy()]), limits, answers)
