"""``cascade serve --runtime torch``: the code of ``--gpu``, here on the CPU, in a process of its own."""

import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade.v1.check_pb2 import ACTION_BLOCK, ROUTE_REASON_STAGE2_UNAVAILABLE, CheckRequest
from cascade.v1.model_service_pb2 import ListModelsRequest
from cascade.v1.stage_service_pb2 import ScoreRequest, TokenWindow
from stages.manifest import Manifest
from stages.registry import EMBEDDED, load_stage
from tests.serve.calling import fails, stubs
from tests.serve.conftest import COMMAND, ServerProcess, environment, whole_lines
from tests.serve.test_gpu_host import gone

pytest.importorskip("peft")
torch_files = import_module("safetensors.torch")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
START_S = 300  # torch, transformers and PEFT take long to import where much else runs
CODE = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
FOREIGN = "水壶还开着吗？我想泡一杯茶。"  # stage 1 does not read it, so that stage 2 is asked
LOUDER = 4.0  # added to the binary logit by the second adapter's head
WEIGHTS = "adapter_model.safetensors"


def changed_adapter(folder, change):
    """A copy of the embedded adapter, its tensors changed: name, tensor -> tensor."""
    shutil.copytree(EMBEDDED["hazard"] / "adapter", folder)
    tensors = torch_files.load_file(folder / WEIGHTS)
    torch_files.save_file({name: change(name, value) for name, value in tensors.items()}, folder / WEIGHTS)
    return folder


def louder(name, value):
    if name.endswith("head.binary.bias"):
        return value + LOUDER
    return value * 1.2 if "lora_B" in name else value


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    adapter = changed_adapter(folder / "loud", louder)
    command = [*COMMAND, "serve", "--port", "0", "--metrics-port", "0", "--threads", "1"]
    server = ServerProcess(
        [*command, "--runtime", "torch", "--device", "cpu", "--adapter", f"loud={adapter}"], folder, seconds=START_S
    )
    yield server
    server.close()


@pytest.fixture
def call(server):
    return stubs(server.channel)


@pytest.fixture(scope="module")
def onnx():
    return load_stage("hazard")


@pytest.fixture(scope="module")
def windows(onnx):
    manifest = Manifest.load(EMBEDDED["hazard"])
    return [onnx.encode(golden.text).windows[0] for golden in manifest.golden]


def logged(server, message):
    return [line for line in whole_lines(server.log) if line["message"] == message]


def logits(answer):
    return np.array([[window.unsafe_logit, *window.label_logits] for window in answer.windows])


def score(call, windows, adapters):
    sent = [TokenWindow(ids=window.ids, adapter=name) for window, name in zip(windows, adapters, strict=True)]
    return logits(call.stage.Score(ScoreRequest(stage="stage2", windows=sent), timeout=100))


def test_base_and_adapter_score_like_the_quantised_file(call, onnx, windows):
    found = score(call, windows, [""] * len(windows))
    expected = np.array([[scores.unsafe, *scores.labels] for scores in onnx.score(windows)])
    difference = np.abs(found - expected)
    assert difference.mean() < 0.25
    assert difference.max() < 1.0
    assert (difference > 0).any(), "float32 is not int8: this came from the quantised file"


def test_the_models_say_where_they_run(call):
    first, second = call.models.ListModels(ListModelsRequest()).models
    assert (first.runtime, list(first.adapters)) == ("onnxruntime-int8", [])
    assert (second.runtime, second.device, list(second.adapters)) == ("torch-float32", "cpu", ["loud"])


def test_a_mixed_batch_scores_as_each_adapter_alone(call, windows):
    names = ["", "loud"] * len(windows)
    mixed = score(call, windows * 2, names[: 2 * len(windows)])
    alone = {name: score(call, windows, [name] * len(windows)) for name in ("", "loud")}
    for index, row in enumerate(mixed):
        expected = alone[names[index]][index % len(windows)]
        assert row == pytest.approx(expected, abs=1e-3)
    assert np.abs(alone["loud"][:, 0] - alone[""][:, 0] - LOUDER).max() > 0.01, "LoRA matrices count, not the head only"
    assert np.abs(alone["loud"][:, 0] - alone[""][:, 0]).min() > 1


def test_requests_choose_their_adapter(call):
    def check(adapter):
        options = {"adapter": adapter, "bypass_cache": True}
        return call.cascade.Check(CheckRequest(text=FOREIGN, options=options), timeout=100)

    def second(answer):
        (report,) = (stage for stage in answer.stages if stage.name == "stage2")
        return report.unsafe_probability

    quiet, loud = second(check("")), second(check("loud"))
    assert loud > quiet + 0.05
    with ThreadPoolExecutor(8) as pool:  # together they share batches
        answers = list(pool.map(check, ["", "loud"] * 8))
    assert [second(answer) for answer in answers] == pytest.approx([quiet, loud] * 8, abs=1e-3)
    refused = fails(CODE.NOT_FOUND, call.cascade.Check, CheckRequest(text=FOREIGN, options={"adapter": "nobodys"}))
    assert "loud" not in refused.message, "whose adapters there are is nobody's business"


def test_metrics_count_halvings(server, call):
    call.cascade.Check(CheckRequest(text=FOREIGN), timeout=100)
    with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as page:
        assert 'cascade_stage_oom_halvings_total{stage="stage2"} 0.0' in page.read().decode().splitlines()


def test_a_killed_stage_degrades_by_the_policy_and_comes_back(server, call):
    health = health_pb2_grpc.HealthStub(server.channel)
    before = call.cascade.Check(CheckRequest(text=FOREIGN), timeout=100)
    assert not before.degraded
    watched = health.Watch(health_pb2.HealthCheckRequest(service="stage2"))
    assert next(watched).status == SERVING
    os.kill(logged(server, "stage ready")[-1]["pid"], signal.SIGKILL)
    assert next(watched).status == NOT_SERVING
    answer = call.cascade.Check(CheckRequest(text=FOREIGN, options={"bypass_cache": True}), timeout=20)
    assert (answer.degraded, answer.degraded_reason) == (True, "stage2: STAGE_UNAVAILABLE")
    assert answer.route.reason == ROUTE_REASON_STAGE2_UNAVAILABLE
    assert (answer.action, answer.override_rule) == (ACTION_BLOCK, "stage2.on_error")
    fails(CODE.UNAVAILABLE, call.stage.Score, ScoreRequest(stage="stage2", texts=["x"]))
    for name in ("", "stage1"):
        assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
    assert next(watched).status == SERVING
    again = call.cascade.Check(CheckRequest(text=FOREIGN, options={"bypass_cache": True}), timeout=100)
    assert not again.degraded
    assert again.unsafe_probability == pytest.approx(before.unsafe_probability, abs=1e-6)
    assert len(logged(server, "a stage's process ended")) == 1


def test_sigterm_ends_the_stage_too(server):
    pid = logged(server, "stage ready")[-1]["pid"]
    server.terminate()
    assert server.wait(60) == (0, "")
    assert gone(pid)


def narrower(name, value):
    return value[:, :-8].contiguous() if "lora_A" in name else value


def test_an_adapter_for_another_base_is_refused_in_one_line(tmp_path):
    adapter = changed_adapter(tmp_path / "foreign", narrower)
    command = [*COMMAND, "serve", "--port", "0", "--threads", "1", "--runtime", "torch", "--adapter", f"a={adapter}"]
    started = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=START_S, cwd=tmp_path, env=environment(), check=False
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("{"))
    assert re.fullmatch(r"cascade: .*foreign: an adapter for another base: .*lora_A.*", line)
    assert time.monotonic() - started < START_S
