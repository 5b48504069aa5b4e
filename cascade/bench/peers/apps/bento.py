"""BentoML with its adaptive batches."""

import os

import bentoml
from scoring import Scorer


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Model:
    """Scores texts."""

    def __init__(self) -> None:
        self.scorer = Scorer()

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["BENCH_BATCH"]), max_latency_ms=60_000)
    def predict(self, texts: list[str]) -> list[float]:
        """Scores a batch."""
        return self.scorer.score(texts)
