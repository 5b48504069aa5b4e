"""A stage over the wire: the same windows, scores and calibration as in the process that has the model."""

import asyncio
import re
import threading
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from cascade.batching import Batcher
from cascade.limits import Limits
from cascade.observe.metrics import Metrics
from cascade.serve.calls import Calls
from cascade.serve.lifecycle import Lifecycle
from cascade.serve.models import StageService
from cascade.v1 import stage_service_pb2
from cascade.v1.stage_service_pb2 import ScoreRequest, TokenWindow
from cascade.v1.stage_service_pb2_grpc import StageServiceStub
from stages.encoder import NetworkStage
from stages.errors import ModelError, StageError, StageUnavailableError
from stages.registry import load_stage
from stages.remote.client import RemoteStage
from stages.remote.wire import describe, to_calibration
from stages.stage import Calibration, Isotonic, Platt, Window
from tests.fakes import FakeStage
from tests.serve.calling import fails

CODE = grpc.StatusCode
TEXTS = ["Is the kettle still on?", "", "水壶还开着吗？", "A quiet evening by the lake, with tea and a book. " * 60]


class Network:
    """Scores a window by its length; an adapter adds a thousand. Out of memory and slow on request."""

    batched = True

    def __init__(self):
        self.oom_halvings = 0
        self.release = threading.Event()
        self.release.set()

    def run(self, windows):
        self.release.wait(30)
        self.oom_halvings += len(windows) > 2
        unsafe = np.array([len(window) + 1000.0 * (window.adapter == "mine") for window in windows])
        return unsafe, np.stack([unsafe + label for label in range(14)], axis=1)


class Wanting(grpc.aio.ServerInterceptor):
    """Refuses calls without a token."""

    def __init__(self, token):
        self._wanted = ("authorization", f"Bearer {token}")

    async def intercept_service(self, continuation, details):
        if self._wanted in details.invocation_metadata:
            return await continuation(details)

        async def refuse(request, context):
            await context.abort(CODE.UNAUTHENTICATED)

        return grpc.unary_unary_rpc_method_handler(refuse)


class Server:
    """A StageService with one stage at an address, on an event loop of its own.

    Port 0 becomes one that is free. ``credentials`` make it speak TLS; ``token`` is what every call then has to show.
    """

    def __init__(self, stage, address, *, credentials=None, token=None):
        self.address = address
        self._credentials, self._token = credentials, token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._start(stage))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _start(self, stage):
        self._batcher = Batcher(stage)
        self._server = grpc.aio.server(interceptors=[Wanting(self._token)] if self._token else [])
        contract = stage_service_pb2.DESCRIPTOR.services_by_name["StageService"]
        alone = SimpleNamespace(stages={"stage2": self._batcher}, limits=Limits())
        service = StageService(lambda: nullcontext(alone))
        self._server.add_generic_rpc_handlers((Calls(Metrics(), Lifecycle()).bind(service, contract),))
        if self._credentials:
            port = self._server.add_secure_port(self.address, self._credentials)
        else:
            port = self._server.add_insecure_port(self.address)
        self.address = re.sub(r":0$", f":{port}", self.address)
        await self._server.start()

    async def _end(self):
        await self._server.stop(None)
        await self._batcher.close()

    def stop(self):
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def serving(tmp_path):
    """Serves stages: ``serving(stage)`` returns the server."""
    started = []

    def serve(stage):
        started.append(Server(stage, f"unix:{tmp_path}/{len(started)}.sock"))
        return started[-1]

    yield serve
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def hazard():
    return load_stage("hazard")


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def counting(hazard, network):
    """The hazard model's tokenizer and description over a network that counts."""
    info = replace(hazard.info, adapters=("mine",))
    calibration = replace(hazard.calibration, adapters={"mine": Calibration(Platt(3.0, 1.0))})
    return NetworkStage(info, calibration, hazard.tokenizer, network)


@pytest.fixture
def connect():
    stages = []

    def connect(server, **options):
        stages.append(RemoteStage(server.address, "stage2", **options))
        return stages[-1]

    yield connect
    for stage in stages:
        stage.close()


def test_a_remote_stage_is_the_stage(hazard, serving, connect):
    remote = connect(serving(hazard))
    assert remote.info == hazard.info
    assert remote.calibration == hazard.calibration
    assert [remote.encode(text) for text in TEXTS] == [hazard.encode(text) for text in TEXTS]
    windows = [window for text in TEXTS for window in hazard.encode(text).windows]
    assert len(windows) > len(TEXTS)
    for here, there in zip(hazard.score(windows), remote.score(windows), strict=True):
        assert there.unsafe == here.unsafe
        assert there.labels.tolist() == here.labels.tolist()


def test_a_remote_stage_can_be_served_on(counting, serving, connect):
    """As `cascade serve` does whose stage 2 runs in a process of its own."""
    remote = connect(serving(connect(serving(counting))))
    assert remote.info == counting.info
    assert [remote.encode(text) for text in TEXTS] == [counting.encode(text) for text in TEXTS]
    window = Window((0, 7, 8, 2), 0, 2, "mine")
    assert [scores.unsafe for scores in remote.score([window])] == [1004]


def test_windows_carry_their_adapters_and_calibrations(counting, serving, connect):
    remote = connect(serving(counting))
    windows = [Window((0, 7, 2), 0, 1), Window((0, 7, 8, 2), 0, 2, "mine"), Window((0, 2), 0, 0)]
    assert [scores.unsafe for scores in remote.score(windows)] == [3, 1004, 2]
    assert remote.calibration.of("mine") == Calibration(Platt(3.0, 1.0))
    assert remote.calibration.of("") == counting.calibration
    with pytest.raises(ModelError, match="no such adapter"):
        remote.score([replace(windows[0], adapter="yours")])


def test_a_bent_calibrator_keeps_its_shape_on_the_wire():
    calibration = Calibration(
        Isotonic(Platt(2.0, -1.0), ((-1.0, -3.0), (0.5, 2.0))), (Platt(0.5, 0.25),), 0.125, (0.5,)
    )
    stage = FakeStage("hazard", calibration=calibration)
    assert to_calibration(describe("stage2", stage)) == calibration


def test_halvings_add_up_over_processes(counting, network, serving, connect):
    remote = connect(serving(counting))
    window = Window((0, 7, 2), 0, 1)
    remote.score([window] * 3)
    remote.score([window])
    assert remote.oom_halvings == 1
    network.oom_halvings = 0  # as a new process has it
    remote.reconnect(serving(counting).address)
    assert remote.oom_halvings == 1
    remote.score([window] * 3)
    assert remote.oom_halvings == 2


def test_nobody_there(tmp_path, counting, serving, connect, monkeypatch):
    server = serving(counting)
    remote = connect(server)
    stopped = Server(counting, f"unix:{tmp_path}/gone.sock")
    remote.reconnect(stopped.address)
    stopped.stop()
    with pytest.raises(StageUnavailableError, match="cannot be reached"):
        remote.score([Window((0, 2), 0, 0)])
    monkeypatch.setattr("stages.remote.client.CONNECT_S", 0.2)
    with pytest.raises(StageUnavailableError, match=r"gone\.sock"):
        remote.reconnect(stopped.address)
    remote.reconnect(server.address)
    assert remote.score([Window((0, 2), 0, 0)])[0].unsafe == 2


def test_a_stage_that_hangs_is_told_from_one_that_works(counting, network, serving, connect):
    remote = connect(serving(counting), timeout_s=0.3)
    network.release.clear()
    with pytest.raises(StageError, match=r"within 0\.3 s"):
        remote.score([Window((0, 2), 0, 0)])
    assert remote.hangs
    network.release.set()
    remote.score([Window((0, 2), 0, 0)])
    assert not remote.hangs


def test_another_model_does_not_take_the_place_of_the_first(hazard, counting, serving, connect):
    remote = connect(serving(counting))
    with pytest.raises(ModelError, match="is there now"):
        remote.reconnect(serving(hazard).address)
    assert remote.score([Window((0, 2), 0, 0, "mine")])[0].unsafe == 1002


def test_a_stage_without_a_tokenizer_for_others_is_refused(serving):
    with pytest.raises(ModelError, match="tokenizer"):
        RemoteStage(serving(FakeStage("hazard")).address, "stage2")


@pytest.mark.parametrize(
    ("windows", "field"),
    [
        ([TokenWindow()], "windows[0].ids"),
        ([TokenWindow(ids=[0, 2]), TokenWindow(ids=[1] * 193)], "windows[1].ids"),
        ([TokenWindow(ids=[0, 10**6, 2])], "windows[0].ids"),
        ([TokenWindow(ids=[0, -1, 2])], "windows[0].ids"),
    ],
)
def test_windows_that_no_tokenizer_made(counting, serving, windows, field):
    with grpc.insecure_channel(serving(counting).address) as channel:
        score = StageServiceStub(channel).Score
        assert fails(CODE.INVALID_ARGUMENT, score, ScoreRequest(stage="stage2", windows=windows)).fields == [field]


def test_requests_that_make_no_sense(counting, serving):
    with grpc.insecure_channel(serving(counting).address) as channel:
        score = StageServiceStub(channel).Score
        both = ScoreRequest(stage="stage2", texts=["a"], windows=[TokenWindow(ids=[0, 2])])
        assert fails(CODE.INVALID_ARGUMENT, score, both).fields == ["windows"]
        fails(CODE.NOT_FOUND, score, ScoreRequest(stage="stage2", texts=["a"], adapter="yours"))
        answer = score(ScoreRequest(stage="stage2", texts=["a"], adapter="mine"))
        assert answer.results[0].windows[0].unsafe_logit > 1000
        assert list(answer.model.adapters) == ["mine"]


async def test_halvings_reach_the_metrics(counting):
    metrics, batcher = Metrics(), Batcher(counting)
    metrics.watch("stage2", batcher)

    def counted():
        return metrics.registry.get_sample_value("cascade_stage_oom_halvings_total", {"stage": "stage2"})

    assert counted() == 0
    for expected in (1, 2):
        await batcher.score([Window((0, 7, 2), 0, 1)] * 3)
        await asyncio.sleep(0)
        assert counted() == expected
    await batcher.close()
