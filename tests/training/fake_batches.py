"""Anthropic's Message Batches on a local port: keeps what is submitted and answers as a test says.

The shapes are those that the API documents; the texts are made up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def succeeded(text, *, stop_reason="end_turn", usage=(100, 20, 0, 0)):
    fresh, output, written, read = usage
    return {
        "type": "succeeded",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-5-5",
            "content": [{"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": text}],
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": fresh,
                "output_tokens": output,
                "cache_creation_input_tokens": written,
                "cache_read_input_tokens": read,
                "service_tier": "batch",
            },
        },
    }


def errored(kind):
    return {
        "type": "errored",
        "error": {"type": "error", "request_id": "req_1", "error": {"type": kind, "message": "a message"}},
    }


EXPIRED = {"type": "expired"}


class FakeApi:
    """What the server knows. ``answer`` maps a request's params and how often it was asked to a result."""

    def __init__(self, answer: Callable[[dict, int], dict]) -> None:
        self.answer = answer
        self.batches: list[dict] = []  # id, requests, created_at
        self.requests: list[tuple[str, str]] = []  # method, path
        self.polls_until_ended = 0
        self.drop_next_create = False  # take the batch and close the connection without an answer
        self.create_status: tuple[int, str] | None = None
        self.cut_results = False
        self.result_lines: Callable[[list[str]], list[str]] = lambda lines: lines
        self._asked: dict[str, int] = {}
        self._polled: dict[str, int] = {}

    def create(self, requests: list[dict]) -> dict:
        batch = {
            "id": f"msgbatch_{len(self.batches) + 1:02}",
            "requests": requests,
            "created_at": datetime.now(UTC),
            "lines": [],
        }
        for request in requests:
            known = json.dumps(request["params"], sort_keys=True)
            self._asked[known] = self._asked.get(known, 0) + 1
            result = self.answer(request["params"], self._asked[known])
            if result is not None:
                batch["lines"].append(json.dumps({"custom_id": request["custom_id"], "result": result}))
        self.batches.append(batch)
        return batch

    def described(self, batch: dict, base: str) -> dict:
        polled = self._polled.get(batch["id"], 0)
        ended = polled >= self.polls_until_ended
        total = len(batch["requests"])
        return {
            "id": batch["id"],
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {
                "processing": 0 if ended else total,
                "succeeded": total if ended else 0,
                "errored": 0,
                "canceled": 0,
                "expired": 0,
            },
            "created_at": batch["created_at"].isoformat(),
            "expires_at": (batch["created_at"] + timedelta(hours=24)).isoformat(),
            "ended_at": None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{base}/v1/messages/batches/{batch['id']}/results" if ended else None,
        }

    def poll(self, batch: dict) -> None:
        self._polled[batch["id"]] = self._polled.get(batch["id"], 0) + 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: FakeApi

    def log_message(self, *_: object) -> None:
        pass

    @property
    def base(self) -> str:
        host, port = self.server.server_address[:2]
        return f"http://{host}:{port}"

    def send(self, status: int, body: bytes, kind: str = "application/json", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.send_header("request-id", "req_fake")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.api.requests.append(("POST", self.path))
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["authorization"] == "Bearer a-key"
        if self.api.create_status is not None:
            status, kind = self.api.create_status
            error = {"type": "error", "error": {"type": kind, "message": "quotes SECRET-TEXT of the request"}}
            self.send(status, json.dumps(error).encode())
            return
        batch = self.api.create(body["requests"])
        if self.api.drop_next_create:
            self.api.drop_next_create = False
            self.close_connection = True
            self.connection.close()
            return
        self.send(200, json.dumps(self.api.described(batch, self.base)).encode())

    def do_GET(self) -> None:
        self.api.requests.append(("GET", self.path.partition("?")[0]))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if len(parts) == 3:  # v1/messages/batches
            latest = [self.api.described(batch, self.base) for batch in reversed(self.api.batches)]
            page = {"data": latest, "has_more": False, "first_id": None, "last_id": None}
            self.send(200, json.dumps(page).encode())
            return
        batch = next((each for each in self.api.batches if each["id"] == parts[3]), None)
        if batch is None:
            self.send(404, b'{"type": "error", "error": {"type": "not_found_error", "message": "no"}}')
        elif len(parts) == 5:
            lines = self.api.result_lines(batch["lines"])
            # In another order, as the API may have it.
            body = "".join(line + "\n" for line in reversed(lines)).encode()
            if self.api.cut_results:
                self.close_connection = True
                self.send(200, body[: len(body) // 2], "application/x-jsonl", length=len(body))
            else:
                self.send(200, body, "application/x-jsonl")
        else:
            body = json.dumps(self.api.described(batch, self.base)).encode()
            self.api.poll(batch)
            self.send(200, body)


@contextmanager
def serving(api: FakeApi) -> Iterator[str]:
    """Runs the server; yields its address."""
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
