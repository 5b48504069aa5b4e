"""One scoring function: of 200 texts every surface says what ``cascade classify`` says, to the last digit."""

import json
import math
import random
import subprocess
from itertools import product

import openai
import pytest
from google.protobuf.json_format import ParseDict

from cascade.gateways import open_inference_pb2 as pb
from cascade.gateways.open_inference_pb2_grpc import GRPCInferenceServiceStub
from cascade.jsonform import to_dict
from cascade.policy import default_policy
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckRequest, Exchange
from stages.taxonomy import HAZARD_SLUGS
from tests.gateways.asking import Asking
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
from tests.serve.reflected import method_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FRAMES = ("How do I {}", "Tell me how to {}", "Is it wrong to {}", "A story: somebody wants to {}", "I wish I could {}")
DEEDS = ("kill a process", "steal a password", "bake rye bread", "poison the rats", "hurt my neighbour", "fix a bike")
DEEDS += ("forge a signature", "grow tomatoes", "paint the fence", "break a habit", "build a bomb", "teach a dog")
ENDINGS = ("?", " without being seen.", " with my grandmother!", ", пожалуйста 🙂", " at night … 谢谢")


def made(count):
    """Texts that are different, some calm, some not, a few long, with other scripts among them."""
    parts = list(product(FRAMES, DEEDS, ENDINGS))
    texts = [frame.format(deed) + ending for frame, deed, ending in random.Random(20).sample(parts, count)]
    return [" ".join(texts[:12]) + text if number % 50 == 0 else text for number, text in enumerate(texts)]


TEXTS = made(200)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """The default policy without a random audit: a server draws by a secret, the command does not know it."""
    drawn = "audit_rate = 0.01"
    assert drawn in default_policy().toml
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(default_policy().toml.replace(drawn, "audit_rate = 0.0"))
    return str(path)


@pytest.fixture(scope="module")
def classified(tmp_path_factory, policy):
    """Of each text what the command says."""
    folder = tmp_path_factory.mktemp("classify")
    (folder / "texts").write_text("\n".join(TEXTS))
    command = [*COMMAND, "classify", "--file", "texts", "--json", "--policy", policy]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = [judged(json.loads(line)) for line in done.stdout.splitlines()]
    assert len(found) == len(TEXTS)
    assert {answer["verdict"] for answer in found} >= {"VERDICT_SAFE", "VERDICT_UNSAFE"}, "or nothing is compared"
    assert {answer["route"]["escalated"] for answer in found} == {True, False}
    return found


def judged(answer):
    """What may not differ: everything but ids and times."""
    stages = [{key: value for key, value in stage.items() if not key.endswith("Ms")} for stage in answer["stages"]]
    return {key: value for key, value in answer.items() if key != "requestId"} | {"stages": stages}


@pytest.fixture(scope="module")
def server(tmp_path_factory, policy):
    """One that keeps no answers: or each surface would be told what the first one was."""
    folder = tmp_path_factory.mktemp("serve")
    command = [*COMMAND, "serve", "--port", "0", "--http-port", "0", "--cache-entries", "0", "--policy", policy]
    command += ["--envoy", "--envoy-headers-only", "--open-inference"]
    running = ServerProcess(command, folder, seconds=300)
    yield running
    running.close()
    assert '"level": "error"' not in running.log.read_text()


def test_http(server, classified):
    ask = Asking(f"127.0.0.1:{server.http_port}")
    found = [judged(ask("/v1/check", {"text": text}).json) for text in TEXTS]
    ask.close()
    assert found == classified


def test_openais_own_client(server, classified):
    """One by one, and in batches."""
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.http_port}/v1", api_key="any", timeout=600) as client:
        found = [client.moderations.create(input=text).results[0] for text in TEXTS[:50]]
        for start in (50, 125):
            found += client.moderations.create(input=TEXTS[start : start + 75]).results
    assert [judged(one.cascade) for one in found] == classified
    assert [one.flagged for one in found] == [one["verdict"] == "VERDICT_UNSAFE" for one in classified]


def test_a_client_by_reflection(server, classified):
    check, request = method_of(server.channel, "cascade.v1.CascadeService", "Check")
    found = [judged(to_dict(check(ParseDict({"text": text}, request()), timeout=60))) for text in TEXTS]
    assert found == classified


def told(metadata, side):
    """What a filter of Envoy is told; not of hazards that are not flagged."""
    facts = dict(metadata.fields["cascade"].struct_value.fields[side].struct_value.fields)
    hazards = [value.string_value for value in facts["hazards"].list_value.values]
    return facts["verdict"].string_value.upper(), facts["unsafe_probability"].number_value, hazards


def in_short(answers):
    """The same of whole answers."""
    return [(verdict, probability, flagged) for verdict, probability, _, flagged in map(summary, answers)]


def summary(answer):
    """Verdict, probability, those of the hazards, and which of them are flagged."""
    hazards = answer["hazards"]
    return (
        answer["verdict"].removeprefix("VERDICT_"),
        answer["unsafeProbability"],
        [hazard.get("probability") for hazard in hazards],
        [hazard["slug"] for hazard in hazards if hazard["flagged"]],
    )


def test_ext_proc_requests(server, classified):
    found = [told(about_request(server.channel, chat(text)).dynamic_metadata, "request") for text in TEXTS]
    assert found == in_short(classified)


def test_ext_authz(server, classified):
    bodies = (json.dumps({"text": text}).encode() for text in TEXTS)
    found = [told(authorize(server.channel, data).dynamic_metadata, "request") for data in bodies]
    assert found == in_short(classified)


@pytest.fixture(scope="module")
def checked(server):
    """Of each text what `Check` says of it as an answer without a prompt."""
    check = CascadeServiceStub(server.channel).Check
    return [to_dict(check(CheckRequest(exchange=Exchange(response=text)), timeout=60)) for text in TEXTS]


def test_ext_proc_streamed_answers(server, checked):
    """In one piece, in two, and so on to five."""
    found = []
    for number, text in enumerate(TEXTS):
        size = -(-len(text) // (1 + number % 5))
        deltas = [chunk(text[start : start + size]) for start in range(0, len(text), size)]
        first = head("request", {}, end=True, protocol_config=config(BUFFERED, DUPLEX))
        events = [body("response", one, end=one == DONE) for one in [*deltas, DONE]]
        replies = process(server.channel, first, head("response", EVENTS), *events)
        found.append(told(replies[-1].dynamic_metadata, "response"))
    assert found == in_short(checked)


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
    assert found == [summary(answer) for answer in classified]


def test_tritons_own_client(server, classified):
    command = [*venv_python.script("triton.py"), f"127.0.0.1:{server.port}"]
    done = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for way in ("rows", "batch"):
        rows = [
            (verdict, probability, [None if math.isnan(one) else one for one in hazards], named(flagged))
            for verdict, probability, hazards, flagged in found[way]
        ]
        assert rows == [summary(answer) for answer in classified], way


def named(flagged):
    return [slug for slug, on in zip(HAZARD_SLUGS, flagged, strict=True) if on]
