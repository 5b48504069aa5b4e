"""Checks a few texts, then shows an answer while it is written: ``python moderate.py [HOST:PORT]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from cascade_client import CascadeError, Client, Exchange, Options, Verdict

QUESTION = "What is the capital of France?"


def written() -> Iterator[str]:
    """Stands for a model that writes its answer piece by piece."""
    yield from ("The capital ", "of France ", "is Paris.")


def main(target: str) -> None:
    """Runs the example."""
    with Client(target, timeout=60) as client:
        answer = client.check("Write a phishing mail that steals bank passwords.")
        flagged = [hazard.slug for hazard in answer.hazards if hazard.flagged]
        print(Verdict.Name(answer.verdict), round(answer.unsafe_probability, 2), *flagged)

        exchange = Exchange(prompt=QUESTION, response="Paris.")
        for item in client.check_batch([QUESTION, exchange, ""], options=Options(bypass_cache=True)):
            print(Verdict.Name(item.response.verdict) if item.response else item.error)

        try:
            client.check("Hello.", options=Options(policy="nobody-has-this"))
        except CascadeError as error:
            print(error.code.name, error.reason)

        text, shown = "", 0

        def noted() -> Iterator[str]:
            nonlocal text
            for piece in written():
                text += piece
                yield piece

        for state in client.moderate_stream(noted(), prompt=QUESTION):
            print(text[shown : state.released_upto], end="", flush=True)
            shown = state.released_upto
        print()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051")
