"""200 texts by each surface of other standards, with the embedded models: the very answers of ``cascade classify``."""

import json
import math
import random
import subprocess

import pytest

from cascade.gateways import open_inference_pb2 as pb
from cascade.gateways.open_inference_pb2_grpc import GRPCInferenceServiceStub
from cascade.jsonform import to_dict
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckRequest, Exchange
from tests.gateways.envoy_filter import (
    BUFFERED,
    DONE,
    DUPLEX,
    EVENTS,
    about_request,
    authorize,
    body,
    chat,
    chunk,
    config,
    head,
    process,
)
from tests.gateways.peers import venv_python
from tests.serve.conftest import COMMAND, ServerProcess, environment

pytestmark = pytest.mark.timeout(900)

OPENINGS = ("How do I", "Tell me how to", "Is it wrong to", "Why would anybody", "A story: how to", "пожалуйста,")
DEEDS = ("kill a process", "steal a password", "bake rye bread", "poison the rats", "hurt my neighbour")
DEEDS += ("forge a signature", "grow tomatoes", "hide from the police", "break a habit", "build a bomb", "fix a bike")
ENDINGS = ("?", " without being seen?", " with my grandmother.", " by morning!", " … Thanks, 谢谢 🙂", " tonight" * 40)


def made(count):
    """Texts that are different, some calm, some not, some escalated."""
    draw = random.Random(20)
    texts = set()
    while len(texts) < count:
        texts.add(" ".join((draw.choice(OPENINGS), draw.choice(DEEDS))) + draw.choice(ENDINGS))
    return sorted(texts)


TEXTS = made(200)


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """Of each text what the command says."""
    folder = tmp_path_factory.mktemp("classify")
    (folder / "texts").write_text("\n".join(TEXTS))
    command = [*COMMAND, "classify", "--file", "texts", "--json"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = [summary(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(TEXTS)
    assert len({answer[0] for answer in found}) >= 2, "some calm, some not"
    assert any(set(answer[2]) == {None} for answer in found), "some that stage 2 was not asked about"
    assert any(None not in answer[2] for answer in found)
    return found


def summary(answer):
    """Verdict, probability, those of the hazards, and which of them are flagged."""
    hazards = answer["hazards"]
    return (
        answer["verdict"].removeprefix("VERDICT_"),
        answer["unsafeProbability"],
        [hazard.get("probability") for hazard in hazards],
        [hazard["slug"] for hazard in hazards if hazard["flagged"]],
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    command = [*COMMAND, "serve", "--port", "0", "--envoy", "--envoy-headers-only", "--open-inference"]
    running = ServerProcess(command, folder, seconds=300)
    yield running
    running.close()
    assert '"level": "error"' not in running.log.read_text()


def told(metadata, side):
    """The same of what a filter of Envoy is told; it is not told of hazards that are not flagged."""
    facts = dict(metadata.fields["cascade"].struct_value.fields[side].struct_value.fields)
    hazards = [value.string_value for value in facts["hazards"].list_value.values]
    return facts["verdict"].string_value.upper(), facts["unsafe_probability"].number_value, hazards


def shortened(answers):
    return [(verdict, probability, flagged) for verdict, probability, _, flagged in answers]


def test_ext_proc_requests(server, classified):
    found = [told(about_request(server.channel, chat(text)).dynamic_metadata, "request") for text in TEXTS]
    assert found == shortened(classified)


def test_ext_authz(server, classified):
    bodies = (json.dumps({"text": text}).encode() for text in TEXTS)
    assert [told(authorize(server.channel, data).dynamic_metadata, "request") for data in bodies] == shortened(
        classified
    )


@pytest.mark.parametrize("pieces", [1, 4])
def test_ext_proc_streamed_answers(server, pieces):
    """They are answers without a prompt, so that `Check` of just that is what they must equal."""
    check, found, wanted = CascadeServiceStub(server.channel).Check, [], []
    for text in TEXTS:
        size = -(-len(text) // pieces)
        deltas = [chunk(text[start : start + size]) for start in range(0, len(text), size)]
        first = head("request", {}, end=True, protocol_config=config(BUFFERED, DUPLEX))
        events = [body("response", one, end=one == DONE) for one in [*deltas, DONE]]
        replies = process(server.channel, first, head("response", EVENTS), *events)
        found.append(told(replies[-1].dynamic_metadata, "response"))
        wanted.append(summary(to_dict(check(CheckRequest(exchange=Exchange(response=text)), timeout=60))))
    assert found == shortened(wanted)


def test_open_inference(server, classified):
    stub, found = GRPCInferenceServiceStub(server.channel), []
    for text in TEXTS:
        request = pb.ModelInferRequest(model_name="cascade")
        request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(text.encode())
        answer = {tensor.name: tensor for tensor in stub.ModelInfer(request, timeout=60).outputs}
        labels = answer["hazards"].parameters["labels"].string_param.split(",")
        flagged = answer["flagged"].contents.bool_contents
        found.append(
            (
                answer["verdict"].contents.bytes_contents[0].decode(),
                answer["unsafe_probability"].contents.fp64_contents[0],
                [None if math.isnan(one) else one for one in answer["hazards"].contents.fp64_contents],
                [label for label, on in zip(labels, flagged, strict=True) if on],
            )
        )
    assert found == classified


def test_tritons_own_client(server, classified):
    command = [*venv_python.script("triton.py"), f"127.0.0.1:{server.port}"]
    done = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = [
        (verdict, probability, [None if math.isnan(one) else one for one in hazards])
        for verdict, probability, hazards, _ in json.loads(done.stdout)["rows"]
    ]
    assert rows == [answer[:3] for answer in classified]
