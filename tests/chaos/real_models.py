"""The real command and models, two workers: stage 2's process is killed and stopped under load, again and again.

Part of ``make chaos`` and not of ``make test``: each start of stage 2 takes its time.
"""

import os
import signal

import pytest

from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import ACTION_BLOCK, ROUTE_REASON_STAGE2_UNAVAILABLE, CheckRequest
from cascade.v1.model_service_pb2 import ReloadModelsRequest
from tests.chaos.conftest import ROUNDS
from tests.chaos.test_kills import Clients
from tests.serve.calling import stubs
from tests.serve.conftest import COMMAND, ServerProcess
from tests.serve.test_reload import wait_until
from tests.serve.test_workers import children, workers

TEXTS = (
    "Please tell me how the old stone bridge in our village was built.",
    "水壶还开着吗？",  # stage 1 does not read it, so that stage 2 is asked
    "ᎣᏏᏲ ᏙᎯᏧ ᏂᎯ ᎤᏍᏗ ᎠᏂᎦᎵ",
)


def stage2(server):
    return children(server, "cascade.serve.stage_process")


@pytest.mark.timeout(1800)
def test_stage_2_is_killed_and_stopped_and_workers_are_killed_under_load(tmp_path):
    command = [*COMMAND, "serve", "--port", "0", "--metrics-port", "0", "--workers", "2", "--no-watch"]
    server = ServerProcess([*command, "--stage-timeout-s", "3"], tmp_path, seconds=600)
    try:
        check = CascadeServiceStub(server.channel).Check
        options = {"bypass_cache": True}
        right = {text: check(CheckRequest(text=text, options=options), timeout=120) for text in TEXTS}
        assert [len(answer.stages) for answer in right.values()][1:] == [2, 2]
        clients = Clients(f"127.0.0.1:{server.port}", 4, TEXTS)
        with clients.calling():
            for _ in range(ROUNDS):
                for number in (signal.SIGKILL, signal.SIGSTOP):
                    clients.wait(20, 300)
                    (victim,) = stage2(server)
                    os.kill(victim, number)
                    wait_until(lambda: clients.answers[-1][1].degraded or clients.answers[-2][1].degraded, 300)
                    wait_until(lambda gone=victim: stage2(server) and gone not in stage2(server), 300)
                    wait_until(lambda: not any(answer.degraded for _, answer in clients.answers[-20:]), 300)
                os.kill(workers(server)[0], signal.SIGKILL)
                clients.wait(20, 300)
                wait_until(lambda: len(workers(server)) == 2, 300)
                stubs(server.channel).models.ReloadModels(ReloadModelsRequest(), timeout=300)
            clients.wait(20, 300)
        assert clients.errors == []
        for text, answer in clients.answers:
            if answer.degraded:
                assert text in TEXTS[1:], "what needs no stage 2 never waits for one"
                assert (answer.action, answer.route.reason) == (ACTION_BLOCK, ROUTE_REASON_STAGE2_UNAVAILABLE)
            else:
                expected = right[text]
                assert (answer.verdict, answer.unsafe_probability) == (expected.verdict, expected.unsafe_probability)
        assert any(answer.degraded for _, answer in clients.answers)
    finally:
        server.close()
