"""The Open Inference Protocol against the real server with fake models, by the standard's own messages."""

import json
import math
import struct
import subprocess

import grpc
import pytest

from cascade.gateways import open_inference_pb2 as pb
from cascade.gateways.open_inference_pb2_grpc import GRPCInferenceServiceStub
from cascade.gateways.surfaces import Surfaces
from cascade.serve.identity import Scope
from cascade.serve.security import Security
from stages.taxonomy import HAZARD_SLUGS
from tests.fakes import fake_policy
from tests.gateways.conftest import STRICT
from tests.gateways.envoy_filter import held
from tests.gateways.peers import venv_python
from tests.serve.calling import fails
from tests.serve.guarded import Guarded

CODE = grpc.StatusCode
BAD = "a bad hate thing"


@pytest.fixture(scope="module")
def server():
    policies = [fake_policy(), fake_policy(STRICT, name="strict")]
    with_inference = Guarded(surfaces=Surfaces(open_inference=True), policies=policies)
    yield with_inference
    with_inference.stop()


@pytest.fixture(scope="module")
def inference(server):
    with server.channel() as channel:
        yield GRPCInferenceServiceStub(channel)


def asking(*texts, **more):
    request = pb.ModelInferRequest(model_name="cascade", **more)
    request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    request.inputs[0].contents.bytes_contents.extend(text.encode() for text in texts)
    return request


def test_it_says_what_there_is(inference):
    assert inference.ServerLive(pb.ServerLiveRequest()).live
    assert inference.ServerReady(pb.ServerReadyRequest()).ready
    assert inference.ModelReady(pb.ModelReadyRequest(name="cascade")).ready
    assert inference.ModelReady(pb.ModelReadyRequest(name="cascade", version="1")).ready
    assert not inference.ModelReady(pb.ModelReadyRequest(name="other")).ready
    assert inference.ServerMetadata(pb.ServerMetadataRequest()).name == "cascade"
    found = inference.ModelMetadata(pb.ModelMetadataRequest(name="cascade"))
    assert [(tensor.name, tensor.datatype) for tensor in found.inputs] == [("text", "BYTES"), ("response", "BYTES")]
    assert {tensor.name: list(tensor.shape) for tensor in found.outputs}["hazards"] == [-1, 14]


def test_texts_are_judged(inference):
    found = inference.ModelInfer(asking("a walk in the woods", BAD, id="7"))
    assert (found.model_name, found.model_version, found.id) == ("cascade", "1", "7")
    by_name = {tensor.name: tensor for tensor in found.outputs}
    assert list(by_name["verdict"].contents.bytes_contents) == [b"SAFE", b"UNSAFE"]
    assert list(by_name["action"].contents.bytes_contents) == [b"ALLOW", b"BLOCK"]
    calm, bad = by_name["unsafe_probability"].contents.fp64_contents
    assert calm < 0.1 < 0.6 < bad
    assert by_name["hazards"].parameters["labels"].string_param.split(",") == list(HAZARD_SLUGS)
    hazards, flagged = by_name["hazards"].contents.fp64_contents, by_name["flagged"].contents.bool_contents
    assert all(map(math.isnan, hazards[:14])), "stage 2 was not asked: unknown"
    assert [HAZARD_SLUGS[index] for index in range(14) if flagged[14 + index]] == ["hate"]
    assert hazards[14 + HAZARD_SLUGS.index("hate")] > 0.9


def test_raw_contents_are_answered_in_kind_and_outputs_chosen(inference):
    request = pb.ModelInferRequest(model_name="cascade", model_version="1")
    request.inputs.add(name="text", datatype="BYTES", shape=[2, 1])
    request.raw_input_contents.append(b"".join(struct.pack("<I", len(one)) + one for one in (b"a walk", BAD.encode())))
    for name in ("verdict", "unsafe_probability", "flagged"):
        request.outputs.add(name=name)
    found = inference.ModelInfer(request)
    assert [tensor.name for tensor in found.outputs] == ["verdict", "unsafe_probability", "flagged"]
    assert found.raw_output_contents[0] == b"\x04\0\0\0SAFE\x06\0\0\0UNSAFE"
    assert struct.unpack("<2d", found.raw_output_contents[1])[1] > 0.6
    assert sum(found.raw_output_contents[2]) == 1


def test_an_answer_is_judged_with_its_prompt(inference):
    request = asking("what is it")
    request.inputs.add(name="response", datatype="BYTES", shape=[1]).contents.bytes_contents.append(BAD.encode())
    assert inference.ModelInfer(request).outputs[0].contents.bytes_contents == [b"UNSAFE"]


def test_a_parameter_names_the_policy(inference):
    request = asking("a walk", "another")
    for policy, verdict in (("strict", b"UNSAFE"), ("default", b"SAFE"), ("", b"SAFE")):
        request.parameters["policy"].string_param = policy
        assert list(inference.ModelInfer(request).outputs[0].contents.bytes_contents) == [verdict] * 2
    metadata = [("x-cascade-policy", "strict")]  # of Envoy's filters, not of this protocol
    assert inference.ModelInfer(asking("a walk"), metadata=metadata).outputs[0].contents.bytes_contents == [b"SAFE"]


def raw(request, data):
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(data)


def _changed(change):
    request = asking("a walk", "another")
    change(request)
    return request


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: setattr(r, "model_name", "other"), CODE.NOT_FOUND),
        (lambda r: setattr(r, "model_version", "2"), CODE.NOT_FOUND),
        (lambda r: setattr(r.parameters["policy"], "string_param", "none"), CODE.NOT_FOUND),
        (lambda r: setattr(r.parameters["policy"], "int64_param", 1), CODE.INVALID_ARGUMENT),
        (lambda r: r.parameters["policy"].Clear(), CODE.INVALID_ARGUMENT),
        (lambda r: r.ClearField("inputs"), CODE.INVALID_ARGUMENT),
        (lambda r: setattr(r.inputs[0], "name", "words"), CODE.INVALID_ARGUMENT),
        (lambda r: setattr(r.inputs[0], "datatype", "FP32"), CODE.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].shape.__setitem__(0, 3), CODE.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].shape.extend([-1, -1]), CODE.INVALID_ARGUMENT),
        (lambda r: r.inputs.append(r.inputs[0]), CODE.INVALID_ARGUMENT),
        (lambda r: r.inputs.add(name="response", datatype="BYTES", shape=[0]), CODE.INVALID_ARGUMENT),
        (lambda r: r.outputs.add(name="poem"), CODE.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].contents.bytes_contents.__setitem__(0, b"\xff"), CODE.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].contents.bytes_contents.__setitem__(0, b""), CODE.INVALID_ARGUMENT),
        (lambda r: r.raw_input_contents.append(b"\x01\0\0\0a"), CODE.INVALID_ARGUMENT),
        (lambda r: raw(r, b"\xff\xff\xff\xffa"), CODE.INVALID_ARGUMENT),
        (lambda r: raw(r, b"\0\0\0"), CODE.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].contents.bytes_contents.__setitem__(0, b"a " * 600_000), CODE.RESOURCE_EXHAUSTED),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_the_next_request_works(inference, change, code):
    fails(code, inference.ModelInfer, _changed(change))
    assert inference.ModelInfer(asking("a walk")).outputs[0].contents.bytes_contents == [b"SAFE"]


def test_more_texts_than_a_batch_may_have_are_refused(inference):
    fails(CODE.INVALID_ARGUMENT, inference.ModelInfer, asking(*["a walk"] * 257))
    assert len(inference.ModelInfer(asking(*["a walk"] * 256)).outputs[0].contents.bytes_contents) == 256


def test_bytes_that_are_no_message_are_refused(server):
    with server.channel() as channel:
        fails(CODE.INVALID_ARGUMENT, channel.unary_unary("/inference.GRPCInferenceService/ModelInfer"), b"\xff\xff")


def test_tokens_hold_here_too(tmp_path):
    policy, check = held(path := tmp_path / "tokens.toml", Scope.POLICY, Scope.CHECK)
    guarded = Guarded(Security(token_file=path), surfaces=Surfaces(open_inference=True))
    try:
        with guarded.channel() as channel:
            stub = GRPCInferenceServiceStub(channel)
            fails(CODE.UNAUTHENTICATED, stub.ServerLive, pb.ServerLiveRequest())
            bearer = [("authorization", f"Bearer {policy}")]
            assert stub.ServerLive(pb.ServerLiveRequest(), metadata=bearer).live
            fails(CODE.PERMISSION_DENIED, stub.ModelInfer, asking("a walk"), metadata=bearer)
            assert stub.ModelInfer(asking("a walk"), metadata=[("authorization", f"Bearer {check}")]).outputs
    finally:
        guarded.stop()


def test_tritons_own_client(server):
    script = venv_python.script("triton.py")
    done = subprocess.run(
        [*script, server.address], input=json.dumps(["a walk", BAD]), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["live"], found["ready"], found["model"], found["other"]) == (True, True, True, False)
    assert found["metadata"]["name"] == "cascade"
    assert "NOT_FOUND" in found["unknown"][0]
    assert [row[0] for row in found["rows"]] == ["SAFE", "UNSAFE"]
    assert [row[0] for row in found["batch"]] == ["SAFE", "UNSAFE"]
    assert found["one"] == ["mine", ["action"]]
