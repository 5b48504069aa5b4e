"""Clients that call a server without pause and look at every answer, with the retry policy that clients ship."""

import json
import threading
import time
from contextlib import contextmanager

import grpc

from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckRequest

RETRY = {
    "methodConfig": [
        {
            "name": [{"service": "cascade.v1.CascadeService"}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def connect(port, *, retry=True):
    """A channel with a connection of its own, which may lead to any of the workers."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if retry:
        options += [("grpc.enable_retries", 1), ("grpc.service_config", json.dumps(RETRY))]
    return grpc.insecure_channel(f"127.0.0.1:{port}", options)


class Load:
    """What the clients saw: ``answers`` in the order in which they came, and ``errors``."""

    def __init__(self):
        self.answers = []
        self.errors = []
        self.stop = threading.Event()

    def wait(self, count, seconds=60):
        """Waits for so many more answers."""
        until, goal = time.monotonic() + seconds, len(self.answers) + count
        while len(self.answers) < goal:
            assert time.monotonic() < until, f"{len(self.answers)} of {goal} answers, errors: {self.errors[:3]}"
            time.sleep(0.01)

    def run(self, port, text, retry):
        with connect(port, retry=retry) as channel:
            check = CascadeServiceStub(channel).Check
            while not self.stop.is_set():
                request_id = f"{threading.get_ident()}-{time.monotonic_ns()}"
                request = CheckRequest(request_id=request_id, text=text, options={"bypass_cache": True})
                try:
                    answer = check(request, timeout=60)
                except grpc.RpcError as error:
                    self.errors.append(error)
                    continue
                if answer.request_id != request.request_id:
                    self.errors.append(f"{request.request_id} was answered as {answer.request_id}")
                self.answers.append(answer)


@contextmanager
def load(port, *, clients=4, text="a terrible thing", retry=True):
    """Runs clients while the body runs."""
    state = Load()
    threads = [threading.Thread(target=state.run, args=(port, text, retry)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        for thread in threads:
            thread.join()
