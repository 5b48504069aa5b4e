"""What the peers serve: our own stage, as our own server runs it."""

import os

from stages.registry import load_stage


class Scorer:
    """The stage of the model folder that the benchmark names."""

    def __init__(self) -> None:
        self._stage = load_stage(os.environ["BENCH_MODEL"])

    def score(self, texts: list[str]) -> list[float]:
        """The unsafe logit of each text: that of its worst window."""
        cut = [self._stage.encode(text).windows for text in texts]
        scores = iter(self._stage.score([window for windows in cut for window in windows]))
        return [max(next(scores).unsafe for _ in windows) for windows in cut]
