"""Ray Serve with one replica on this machine and batches of what is queued."""

import signal
import sys

import ray
from ray import serve
from scoring import Scorer
from starlette.requests import Request

port, batch = map(int, sys.argv[1:3])


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class Model:
    """Scores texts."""

    def __init__(self) -> None:
        self.scorer = Scorer()

    @serve.batch(max_batch_size=batch, batch_wait_timeout_s=0)
    async def score(self, texts: list[str]) -> list[float]:
        """Scores a batch."""
        return self.scorer.score(texts)

    async def __call__(self, request: Request) -> dict[str, float]:
        """Scores the text of a request."""
        return {"unsafe": await self.score((await request.json())["text"])}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Model.bind())
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
