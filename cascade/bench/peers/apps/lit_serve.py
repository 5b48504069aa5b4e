"""LitServe with batches of what is queued: no wait for more."""

import sys

import litserve
from scoring import Scorer


class Api(litserve.LitAPI):
    """Scores texts."""

    def setup(self, device: str) -> None:
        """Loads the model, in the worker."""
        self.scorer = Scorer()

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of a request."""
        return request["text"]

    def predict(self, texts: list[str] | str) -> list[float]:
        """Scores a batch, or a text where there are no batches."""
        return self.scorer.score([texts])[0] if isinstance(texts, str) else self.scorer.score(texts)

    def encode_response(self, output: float) -> dict[str, float]:
        """The reply."""
        return {"unsafe": output}


if __name__ == "__main__":
    port, batch = map(int, sys.argv[1:3])
    server = litserve.LitServer(Api(max_batch_size=batch, batch_timeout=0.0), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, log_level="warning", access_log=False, generate_client_file=False)
