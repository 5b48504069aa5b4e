"""*requests* -> Message Batches, chunked -> *answers by key*. A run that was stopped is picked up by the next.

Nothing is paid twice. The state is written before a batch is submitted and again with its id. If a run dies between
the two, the next one looks through the account's latest batches for one with this job's custom ids and takes it over.
For the same reason a submission is never tried again in silence. Requests that the API lost (an error of its own, the
24 hours are over) go into another round; those that it rejects do not.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from anthropic import Anthropic, AnthropicError, APIStatusError
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse

from training.data.llm import state as outcomes
from training.data.llm.client import LabellerError, describe
from training.data.llm.prices import Usage
from training.data.llm.state import Chunk, Reply, State

MAX_REQUESTS, MAX_BYTES = 10_000, 128 * 2**20  # a batch may have 100,000 and 256 MiB: smaller ones end sooner
ROUNDS = 3
POLL_S = 30.0
_CLOCK_SKEW = timedelta(minutes=10)
_KEY = re.compile(r"[\w-]{1,48}", re.ASCII)  # with the nonce before it within the API's 64
_LOST = {"api_error", "overloaded_error", "rate_limit_error", "timeout_error"}


@dataclass(frozen=True)
class Request:
    """Parameters of the Messages API, and a key that is unique in the job."""

    key: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """How a job is cut and how long it waits."""

    requests: int = MAX_REQUESTS
    bytes: int = MAX_BYTES
    rounds: int = ROUNDS
    poll_s: float = POLL_S


Progress = Callable[[int, int], None]  # answers that are here, of all


class Job:
    """One set of requests with its state in ``folder``."""

    def __init__(
        self,
        client: Anthropic,
        folder: Path,
        requests: Sequence[Request],
        limits: Limits | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Opens the state or makes a new one; nothing is sent yet.

        Raises:
            LabellerError: the folder holds another job.
        """
        self.requests = {request.key: request for request in requests}
        if len(self.requests) != len(requests) or not all(_KEY.fullmatch(key) for key in self.requests):
            raise ValueError("keys must be unique, of 1 to 48 letters, digits, - and _. This is a bug.")
        self.client, self.limits, self.sleep = client, limits or Limits(), sleep
        self.state = State.open(folder, fingerprint(requests))

    def run(self, on_progress: Progress = lambda done, of: None) -> dict[str, Reply]:
        """Submits what was not submitted, waits, fetches, and tells what became of each request.

        Raises:
            LabellerError: the API cannot be used. What is under way is picked up by the next run.
        """
        if not self.state.chunks:
            self._plan(0, list(self.requests))
        try:
            while True:
                self._submit()
                self._fetch(on_progress)
                lost = [reply.key for reply in self.replies().values() if reply.outcome in outcomes.AGAIN]
                following = 1 + max(chunk.round for chunk in self.state.chunks)
                if not lost or following >= self.limits.rounds:
                    break
                self._plan(following, lost)
        except AnthropicError as error:
            raise LabellerError(f"{describe(error)}; the same command goes on from here") from error
        except httpx2.HTTPError as error:  # while results stream in, which the client does not wrap
            raise LabellerError("the connection to the API broke off; the same command goes on from here") from error
        replies = self.replies()
        self._refuse_rejected(replies)
        return replies

    def replies(self) -> dict[str, Reply]:
        """The latest answer to each request that is here."""
        return {
            reply.key: reply
            for chunk in self.state.chunks
            if self.state.fetched(chunk)
            for reply in self.state.replies(chunk)
        }

    def usage(self) -> Usage:
        """What was used by all answers that are here, of all rounds."""
        here = (chunk for chunk in self.state.chunks if self.state.fetched(chunk))
        return sum((reply.usage for chunk in here for reply in self.state.replies(chunk)), Usage())

    def _plan(self, round_: int, keys: list[str]) -> None:
        part: list[str] = []
        size = 0
        for key in keys:
            cost = len(json.dumps(self.requests[key].params, ensure_ascii=False).encode()) + 100
            if part and (len(part) == self.limits.requests or size + cost > self.limits.bytes):
                self.state.add(round_, part)
                part, size = [], 0
            part.append(key)
            size += cost
        if part:
            self.state.add(round_, part)
        self.state.save()

    def _submit(self) -> None:
        for chunk in self.state.chunks:
            if chunk.batch is None and chunk.intent is not None:
                chunk.batch = self._find(chunk)  # a run died while it submitted this one
                self.state.save()
            if chunk.batch is None:
                chunk.intent = datetime.now(UTC).isoformat()
                self.state.save()
                chunk.batch = self._create(chunk)
                self.state.save()

    def _create(self, chunk: Chunk) -> str:
        requests = [{"custom_id": self._custom_id(key), "params": self.requests[key].params} for key in chunk.keys]
        # A second try of the client's own could make a second batch, and nobody would fetch the first.
        batches: Any = self.client.with_options(max_retries=0).messages.batches
        try:
            return str(batches.create(requests=requests).id)
        except APIStatusError as error:
            if error.status_code < 500:  # it was refused, so it is not there
                chunk.intent = None
                self.state.save()
            raise

    def _find(self, chunk: Chunk) -> str | None:
        """The batch of a chunk whose submission was not heard of, None if there is none."""
        known = {other.batch for other in self.state.chunks}
        since = datetime.fromisoformat(str(chunk.intent)) - _CLOCK_SKEW
        for batch in self.client.messages.batches.list(limit=100):
            if batch.created_at < since:  # the latest come first
                return None
            counts = batch.request_counts
            total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
            if batch.id not in known and total == len(chunk.keys):
                self._wait(batch.id)  # only the results tell whose it is
                first = next(iter(self._results(batch.id)), None)
                if first is not None and first.custom_id in {self._custom_id(key) for key in chunk.keys}:
                    return batch.id
        return None

    def _fetch(self, on_progress: Progress) -> None:
        for chunk in self.state.chunks:
            if not self.state.fetched(chunk):
                on_progress(len(self.replies()), len(self.requests))
                self._wait(str(chunk.batch))
                self.state.keep(chunk, self._collect(chunk))
        on_progress(len(self.replies()), len(self.requests))

    def _wait(self, batch_id: str) -> MessageBatch:
        while True:
            batch = self.client.messages.batches.retrieve(batch_id)
            if batch.processing_status == "ended":
                return batch
            self.sleep(self.limits.poll_s)

    def _results(self, batch_id: str) -> Iterable[MessageBatchIndividualResponse]:
        batch = self._wait(batch_id)
        if batch.results_url is None:
            raise LabellerError(f"batch {batch_id}: its results are no longer kept; remove {self.state.folder}")
        return self.client.messages.batches.results(batch_id)

    def _collect(self, chunk: Chunk) -> Iterator[Reply]:
        waiting = {self._custom_id(key): key for key in chunk.keys}
        try:
            for response in self._results(str(chunk.batch)):
                key = waiting.pop(response.custom_id, None)
                if key is not None:
                    yield _reply(key, response)
        except ValueError as error:  # a line that is not JSON, which the client does not wrap
            raise LabellerError(f"batch {chunk.batch}: its results cannot be read") from error
        for key in waiting.values():
            yield Reply(key, outcomes.MISSING)

    def _custom_id(self, key: str) -> str:
        return f"{self.state.nonce}-{key}"

    def _refuse_rejected(self, replies: Mapping[str, Reply]) -> None:
        if replies and all(reply.outcome == outcomes.REJECTED for reply in replies.values()):
            kinds = sorted({reply.error for reply in replies.values()})
            raise LabellerError(f"the API rejected every request: {', '.join(kinds)}; remove {self.state.folder}")


def _reply(key: str, response: MessageBatchIndividualResponse) -> Reply:
    """Reads one result. The client does not validate what it reads, so a field may be missing."""
    result: Any = response.result
    kind = getattr(result, "type", None)
    if kind == "errored":
        error = str(getattr(getattr(getattr(result, "error", None), "error", None), "type", "") or "unknown")
        return Reply(key, outcomes.ERRORED if error in _LOST else outcomes.REJECTED, error=error)
    if kind in (outcomes.EXPIRED, outcomes.CANCELED):
        return Reply(key, kind)
    message = getattr(result, "message", None)
    content, used = getattr(message, "content", None), getattr(message, "usage", None)
    if kind != "succeeded" or not isinstance(content, list) or used is None:
        return Reply(key, outcomes.MALFORMED)
    usage = Usage(
        used.input_tokens or 0,
        used.output_tokens or 0,
        used.cache_creation_input_tokens or 0,
        used.cache_read_input_tokens or 0,
    )
    stopped = getattr(message, "stop_reason", None)
    outcome = {"refusal": outcomes.REFUSED, "max_tokens": outcomes.CUT}.get(str(stopped), outcomes.OK)
    text = "".join(block.text for block in content if block.type == "text")
    return Reply(key, outcome, text, usage=usage)


def fingerprint(requests: Iterable[Request]) -> str:
    """What a job asks, as a hash."""
    digest = hashlib.sha256()
    for request in requests:
        digest.update(json.dumps([request.key, request.params], sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()
