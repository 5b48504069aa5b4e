"""Stages that fail under a running server: what callers get, what health says, and that it recovers by itself."""

import threading
import time
from dataclasses import replace
from math import nan

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade import breaker
from cascade.batching import Batcher
from cascade.breaker import FAILURES
from cascade.limits import Limits
from cascade.pipeline import Pipeline
from cascade.policy import PolicyStore
from cascade.v1.check_pb2 import Action, CheckRequest
from stages.registry import load_stage
from stages.remote.client import RemoteStage
from tests.fakes import FakeStage, fake_policy
from tests.serve.calling import stubs
from tests.serve.guarded import Guarded, metric
from tests.stages.test_remote import Server as StageServer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
POLICIES = [fake_policy(f'[stage2]\non_error = "{name}"', name=name) for name in ("block", "allow", "stage1_only")]
ACTIONS = {"block": "BLOCK", "allow": "ALLOW", "stage1_only": "ALLOW"}  # for "unsure", which stage 1 alone lets pass
TIMEOUT_S = 1.0


class Sick(FakeStage):
    """A stage with a fault that can be set: an exception to raise, "nan", or "hang" until it is taken away."""

    def __init__(self, kind):
        super().__init__(kind)
        self.fault = None
        self.well = threading.Event()

    def score(self, windows):
        scores = super().score(windows)
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault == "hang":
            self.well.wait(60)
        return [replace(score, unsafe=nan) for score in scores] if self.fault == "nan" else scores

    def heal(self):
        self.fault = None
        self.well.set()


class Patient(Guarded):
    """A server of two stages that can be made sick."""

    def __init__(self, stage2=None):
        self.stages = {"stage1": Sick("tinysafe"), "stage2": stage2 or Sick("hazard")}
        super().__init__(make=self._pipeline)
        self._channel = self.channel()
        self.cascade = stubs(self._channel).cascade
        self.health = health_pb2_grpc.HealthStub(self._channel)

    def _pipeline(self):
        batchers = [Batcher(stage, timeout_s=TIMEOUT_S) for stage in self.stages.values()]
        return Pipeline(*batchers, PolicyStore(POLICIES), Limits())

    def check(self, text="unsure", policy="", timeout=60):
        return self.cascade.Check(CheckRequest(text=text, policy=policy), timeout=timeout)

    def status(self, name):
        return self.health.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status

    def watch(self, name):
        return self.health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=60)

    def stop(self):
        for stage in self.stages.values():
            if isinstance(stage, Sick):
                stage.heal()
        self._channel.close()
        super().stop()


@pytest.fixture(scope="module", autouse=True)
def soon():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(breaker, "PROBE_S", (0.1, 0.2))
        yield


@pytest.fixture(scope="module")
def patient(soon):
    patient = Patient()
    yield patient
    patient.stop()


def until_whole(patient, seconds=60):
    """Waits for an answer of the whole cascade."""
    end = time.monotonic() + seconds
    while (answer := patient.check()).degraded:
        assert time.monotonic() < end, answer.degraded_reason
        time.sleep(0.05)
    return answer


@pytest.mark.parametrize("fault", [RuntimeError("a text"), MemoryError(), "nan", "hang"], ids=str)
def test_a_sick_stage_2_costs_nobody_an_answer_and_comes_back_without_a_restart(patient, fault):
    stage = patient.stages["stage2"]
    until_whole(patient)
    watched = patient.watch("stage2")
    assert next(watched).status == SERVING
    stage.fault = fault
    stage.well.clear()
    failures = 1 if fault == "hang" else FAILURES
    reasons = []
    for number in range(failures):
        policy = list(ACTIONS)[number % len(ACTIONS)]
        answer = patient.check(policy=policy)
        reasons.append(answer.degraded_reason)
        assert Action.Name(answer.action) == f"ACTION_{ACTIONS[policy]}"
    assert reasons == ["stage2: STAGE_FAILED"] * failures
    assert next(watched).status == NOT_SERVING
    started = time.monotonic()
    answers = [patient.check(policy="stage1_only") for _ in range(20)]
    assert {answer.degraded_reason for answer in answers} == {"stage2: BREAKER_OPEN"}
    assert time.monotonic() - started < 20 * TIMEOUT_S, "nobody waits for it"
    assert not patient.check("hello to all of you").degraded, "what needs no stage 2 is answered as ever"
    assert {name: patient.status(name) for name in ("", "cascade.v1.CascadeService", "stage1")} == dict.fromkeys(
        ("", "cascade.v1.CascadeService", "stage1"), SERVING
    )
    assert metric(patient.metrics, "cascade_stage_asked", stage="stage2") == 0
    stage.heal()
    assert next(watched).status == SERVING
    assert not until_whole(patient).degraded
    assert metric(patient.metrics, "cascade_stage_asked", stage="stage2") == 1
    watched.cancel()


def test_a_sick_stage_1_fails_closed_and_comes_back(patient):
    until_whole(patient)
    stage, watched = patient.stages["stage1"], patient.watch("stage1")
    assert next(watched).status == SERVING
    stage.fault = RuntimeError()
    answers = [patient.check("hello to all of you") for _ in range(FAILURES + 3)]
    assert {Action.Name(answer.action) for answer in answers} == {"ACTION_BLOCK"}
    assert [answer.degraded_reason for answer in answers[:FAILURES]] == ["stage1: STAGE_FAILED"] * FAILURES
    assert answers[-1].degraded_reason == "stage1: BREAKER_OPEN"
    assert next(watched).status == NOT_SERVING
    stage.heal()
    assert next(watched).status == SERVING
    assert not until_whole(patient).degraded
    watched.cancel()


def test_whoever_has_no_time_to_wait_for_stage_2_hears_before_the_deadline(patient, monkeypatch):
    monkeypatch.setattr("cascade.pipeline.REPLY_S", 0.5)  # a busy machine comes late to its timers
    until_whole(patient)
    stage = patient.stages["stage2"]
    batcher = patient.pipeline.stages["stage2"]
    monkeypatch.setattr(batcher, "_timeout_s", 60.0)
    stage.well.clear()
    stage.fault = "hang"
    answer = patient.check(policy="stage1_only", timeout=3)
    assert (answer.degraded_reason, Action.Name(answer.action)) == ("stage2: DEADLINE_EXCEEDED", "ACTION_ALLOW")
    stage.heal()


def test_a_stage_2_that_cannot_be_reached_is_found_again(tmp_path):
    address = f"unix:{tmp_path}/stage2.sock"
    hazard = load_stage("hazard")
    far = StageServer(hazard, address)
    stage = RemoteStage(address, "stage2", timeout_s=TIMEOUT_S)
    patient = Patient(stage)
    assert not until_whole(patient).degraded
    watched = patient.watch("stage2")
    assert next(watched).status == SERVING
    far.stop()
    reasons = [patient.check().degraded_reason for _ in range(FAILURES + 1)]
    assert reasons == ["stage2: STAGE_UNAVAILABLE"] * FAILURES + ["stage2: BREAKER_OPEN"]
    assert next(watched).status == NOT_SERVING
    far = StageServer(hazard, address)
    assert next(watched).status == SERVING
    assert not until_whole(patient).degraded
    watched.cancel()
    patient.stop()
    stage.close()
    far.stop()
