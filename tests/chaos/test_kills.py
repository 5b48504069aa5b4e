"""Workers and stages that die or hang under load: clients with the retry policy that we ship lose nothing."""

import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from cascade import breaker
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import (
    ACTION_BLOCK,
    ROUTE_REASON_STAGE2_UNAVAILABLE,
    VERDICT_SAFE,
    VERDICT_UNSAFE,
    CheckRequest,
)
from tests.chaos.conftest import ROUNDS
from tests.serve.test_failures import Patient, until_whole
from tests.serve.test_reload import wait_until
from tests.serve.test_workers import workers

RIGHT = {"a terrible thing": VERDICT_UNSAFE, "hello there my friends": VERDICT_SAFE, "an unsure matter": VERDICT_SAFE}
SERVICE_CONFIG = (Path(__file__).parents[2] / "clients" / "service-config.json").read_text()


class Clients:
    """Callers on two connections, ``at_once`` calls under way all the time; what they saw."""

    def __init__(self, address, at_once, texts=tuple(RIGHT)):
        self.answers, self.errors = [], []
        self._address, self._at_once, self._texts = address, at_once, texts
        self._stop = threading.Event()

    def wait(self, count, seconds=90):
        goal = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= goal or self.errors, seconds)
        assert self.errors == []

    @contextmanager
    def calling(self):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", SERVICE_CONFIG)]
        with ThreadPoolExecutor(self._at_once) as pool:
            channels = [grpc.insecure_channel(self._address, options) for _ in range(2)]
            running = [pool.submit(self._call, channels[number % 2], number) for number in range(self._at_once)]
            try:
                yield self
            finally:
                self._stop.set()
                for each in running:
                    each.result()
                for channel in channels:
                    channel.close()

    def _call(self, channel, number):
        check = CascadeServiceStub(channel).Check
        number *= 1_000_000  # of the calls, no two of which are alike
        while not self._stop.is_set():
            number += 1
            text = self._texts[number % len(self._texts)]
            request = CheckRequest(request_id=f"{number}", text=text, options={"bypass_cache": True})
            try:
                answer = check(request, timeout=60)
            except grpc.RpcError as error:
                self.errors.append(error)
                continue
            self.answers.append((text, answer))


def wrong(clients):
    """Answers of the whole cascade that are not what the text gets, or that do not tell why they are less than that."""
    return [
        (text, answer)
        for text, answer in clients.answers
        if (
            (answer.action, answer.route.reason) != (ACTION_BLOCK, ROUTE_REASON_STAGE2_UNAVAILABLE)
            if answer.degraded
            else answer.verdict != RIGHT[text]
        )
    ]


def test_workers_that_are_killed_again_and_again_cost_no_call(crew):
    """With so many calls on a connection that gRPC would give up repeating them if the policy had it do so early."""
    clients, before = Clients(crew.address, 32), crew.logged("a worker is back")
    with clients.calling():
        for round_ in range(1, ROUNDS + 1):
            clients.wait(50)
            os.kill(workers(crew.server)[round_ % 2], signal.SIGKILL)
            wait_until(lambda n=before + round_: crew.logged("a worker is back") == n)
        clients.wait(50)
    assert clients.errors == []
    assert wrong(clients) == []
    assert not any(answer.degraded for _, answer in clients.answers)
    assert {answer.request_id for _, answer in clients.answers} <= crew.kept()


@pytest.mark.parametrize("fault", [RuntimeError(), "hang"], ids=str)
def test_a_stage_2_that_dies_or_hangs_under_load_costs_no_call_and_no_wrong_verdict(monkeypatch, fault):
    monkeypatch.setattr(breaker, "PROBE_S", (0.1, 0.2))
    patient = Patient()
    stage = patient.stages["stage2"]
    clients = Clients(patient.address, 4)
    try:
        with clients.calling():
            for _ in range(ROUNDS):
                clients.wait(20)
                stage.well.clear()
                stage.fault = fault
                wait_until(lambda: clients.answers[-1][1].degraded or clients.answers[-2][1].degraded)
                clients.wait(20)
                stage.heal()
                until_whole(patient)
            clients.wait(20)
        assert clients.errors == []
        assert wrong(clients) == []
        degraded = Counter(text for text, answer in clients.answers if answer.degraded)
        assert set(degraded) <= {"a terrible thing", "an unsure matter"}, "what needs no stage 2 never waits for one"
        assert degraded
    finally:
        patient.stop()


def test_a_worker_that_hangs_holds_up_its_own_callers_alone(crew):
    """SIGSTOP in place of SIGKILL: who is connected to the other one is answered; after SIGCONT everybody is."""
    victim, _ = workers(crew.server)
    options = [("grpc.use_local_subchannel_pool", 1)]
    os.kill(victim, signal.SIGSTOP)
    try:
        with ExitStack() as stack:  # connections enough for both workers to have some
            channels = [stack.enter_context(grpc.insecure_channel(crew.address, options)) for _ in range(12)]
            request = CheckRequest(text="hello there")
            calls = [CascadeServiceStub(channel).Check.future(request, timeout=60) for channel in channels]
            wait_until(lambda: any(call.done() for call in calls))
            os.kill(victim, signal.SIGCONT)
            assert {call.result().verdict for call in calls} == {VERDICT_SAFE}
    finally:
        os.kill(victim, signal.SIGCONT)
