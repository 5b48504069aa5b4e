"""mosec with batches; it waits a millisecond for more."""

import sys

from mosec import Server, Worker
from scoring import Scorer


class Score(Worker):
    """Scores texts."""

    def __init__(self) -> None:
        self.scorer = Scorer()

    def forward(self, data: list[dict[str, str]] | dict[str, str]) -> list[dict[str, float]] | dict[str, float]:
        """Scores a batch, or a text where there are no batches."""
        if isinstance(data, dict):
            return {"unsafe": self.scorer.score([data["text"]])[0]}
        return [{"unsafe": unsafe} for unsafe in self.scorer.score([item["text"] for item in data])]


if __name__ == "__main__":
    port, batch = sys.argv[1:3]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning", "--timeout", "60000"]
    server = Server()
    server.append_worker(Score, num=1, max_batch_size=int(batch), max_wait_time=1)
    server.run()
