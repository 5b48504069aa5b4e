"""The Open Inference Protocol v2 of KServe, over gRPC: *tensors of texts* -> judged -> tensors of verdicts.

The one model is "cascade", version "1". It takes ``text`` and, for answers, ``response``, each BYTES of N texts, and
gives for each of them

    verdict              BYTES [N]      SAFE, CONTROVERSIAL or UNSAFE
    action               BYTES [N]      ALLOW, REVIEW or BLOCK
    unsafe_probability   FP64  [N]
    hazards              FP64  [N, 14]  probabilities in the order of its parameter "labels"; NaN is unknown
    flagged              BOOL  [N, 14]

The request's parameter ``policy`` names the policy; without it the server's default holds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan, prod

from cascade.content import check_request
from cascade.errors import InvalidRequestError, NotFoundError
from cascade.gateways import open_inference_pb2 as pb
from cascade.gateways.judge import Judge
from cascade.observe.state import own_version
from cascade.serve.auditing import Auditor
from cascade.serve.checks import CheckService
from cascade.serve.identity import Call
from cascade.v1.check_pb2 import Action, CheckRequest, CheckResponse, Verdict
from stages.taxonomy import HAZARD_SLUGS

METHOD = "inference.GRPCInferenceService/ModelInfer"
MODEL, VERSION, PLATFORM = "cascade", "1", "cascade"
INPUTS = ("text", "response")

Value = bytes | float | bool


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that the model gives: its kind, the length of its rows (0: a number, no row), and how it is filled."""

    datatype: str
    width: int
    values: Callable[[CheckResponse], Sequence[Value]]


OUTPUTS = {
    "verdict": Output("BYTES", 0, lambda answer: [Verdict.Name(answer.verdict).removeprefix("VERDICT_").encode()]),
    "action": Output("BYTES", 0, lambda answer: [Action.Name(answer.action).removeprefix("ACTION_").encode()]),
    "unsafe_probability": Output("FP64", 0, lambda answer: [answer.unsafe_probability]),
    "hazards": Output(
        "FP64",
        len(HAZARD_SLUGS),
        lambda answer: [one.probability if one.HasField("probability") else nan for one in answer.hazards],
    ),
    "flagged": Output("BOOL", len(HAZARD_SLUGS), lambda answer: [one.flagged for one in answer.hazards]),
}
FIELDS = {"BYTES": "bytes_contents", "FP64": "fp64_contents", "BOOL": "bool_contents"}


class OpenInference:
    """The methods of ``inference.GRPCInferenceService``.

    Args:
        checks: what judges.
        auditor: keeps records; None keeps none.
        ready: whether more may come.
        most: texts of one request.
    """

    def __init__(
        self, checks: CheckService, auditor: Auditor | None, ready: Callable[[], bool], most: Callable[[], int]
    ) -> None:
        self._judge, self._ready, self._most = Judge(METHOD, checks, auditor), ready, most

    async def server_live(self, request: pb.ServerLiveRequest, call: Call) -> pb.ServerLiveResponse:
        """The server answers."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, request: pb.ServerReadyRequest, call: Call) -> pb.ServerReadyResponse:
        """Whether more may come."""
        return pb.ServerReadyResponse(ready=self._ready())

    async def model_ready(self, request: pb.ModelReadyRequest, call: Call) -> pb.ModelReadyResponse:
        """Whether more may come; False of a model that there is not."""
        return pb.ModelReadyResponse(ready=_is_known(request.name, request.version) and self._ready())

    async def server_metadata(self, request: pb.ServerMetadataRequest, call: Call) -> pb.ServerMetadataResponse:
        """The server's name and version."""
        return pb.ServerMetadataResponse(name="cascade", version=own_version())

    async def model_metadata(self, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
        """The tensors that the model takes and gives.

        Raises:
            NotFoundError: there is no such model.
        """
        _require(request.name, request.version)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=MODEL,
            versions=[VERSION],
            platform=PLATFORM,
            inputs=[tensor(name=name, datatype="BYTES", shape=[-1]) for name in INPUTS],
            outputs=[
                tensor(name=name, datatype=output.datatype, shape=_shape(output, -1))
                for name, output in OUTPUTS.items()
            ],
        )

    async def model_infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """Judges texts; one that cannot be judged fails them all, as the protocol knows no other way.

        Raises:
            NotFoundError: there is no such model or policy.
            InvalidRequestError: the tensors are not what the model takes, or another one is wanted than it gives.
            CascadeError: as :meth:`cascade.gateways.judge.Judge.each`.
        """
        _require(request.model_name, request.model_version)
        wanted = [output.name for output in request.outputs] or list(OUTPUTS)
        for index, name in enumerate(wanted):
            if name not in OUTPUTS:
                raise InvalidRequestError(
                    f"there is no such output; there are {', '.join(OUTPUTS)}", f"outputs[{index}]"
                )
        checks = self._checks(request)
        if len(checks) > self._most():
            raise InvalidRequestError(f"a request holds at most {self._most()} texts, this one {len(checks)}", "inputs")
        answers = await self._judge.under(_policy(request)).each(checks, call)
        response = pb.ModelInferResponse(model_name=MODEL, model_version=VERSION, id=request.id)
        for name in wanted:
            _add(response, name, answers, raw=bool(request.raw_input_contents))
        response.parameters["policy_revision"].string_param = answers[0].policy_revision
        return response

    def _checks(self, request: pb.ModelInferRequest) -> list[CheckRequest]:
        """The requests to judge."""
        columns = _columns(request)
        if "text" not in columns:
            raise InvalidRequestError("the input `text` is missing", "inputs")
        if len({len(column) for column in columns.values()}) > 1:
            raise InvalidRequestError("the inputs are not equally long", "inputs")
        if not columns["text"]:
            raise InvalidRequestError("the input `text` is empty", "inputs")
        responses = columns.get("response", [None] * len(columns["text"]))
        return [
            check_request(text, response, request_id=request.id if len(columns["text"]) == 1 else "")
            for text, response in zip(columns["text"], responses, strict=True)
        ]


def _policy(request: pb.ModelInferRequest) -> str:
    """The name of a policy; empty for the default."""
    if "policy" not in request.parameters:
        return ""
    given = request.parameters["policy"]
    if given.WhichOneof("parameter_choice") != "string_param":
        raise InvalidRequestError("the parameter `policy` is a string", "parameters[policy]")
    return given.string_param


def _columns(request: pb.ModelInferRequest) -> dict[str, list[str]]:
    """The texts of each input."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequestError("there are not as many raw contents as inputs", "raw_input_contents")
    found: dict[str, list[str]] = {}
    for index, tensor in enumerate(request.inputs):
        field = f"inputs[{index}]"
        if tensor.name not in INPUTS or tensor.name in found:
            raise InvalidRequestError(f"each input is one of {', '.join(INPUTS)}, and given once", f"{field}.name")
        if tensor.datatype != "BYTES":
            raise InvalidRequestError("the datatype of texts is BYTES", f"{field}.datatype")
        if raw and tensor.HasField("contents"):
            raise InvalidRequestError("contents and raw contents cannot both be given", f"{field}.contents")
        values = _unpack(raw[index], f"raw_input_contents[{index}]") if raw else list(tensor.contents.bytes_contents)
        if min(tensor.shape, default=0) < 0 or prod(tensor.shape) != len(values):
            raise InvalidRequestError("the shape is not that of the contents", f"{field}.shape")
        try:
            found[tensor.name] = [value.decode() for value in values]
        except UnicodeDecodeError:
            raise InvalidRequestError("a text is not valid UTF-8", field) from None
    return found


def _unpack(data: bytes, field: str) -> list[bytes]:
    """Strings that each stand behind their length."""
    found, place = [], 0
    while place < len(data):
        end = place + 4
        if end <= len(data):
            end += struct.unpack_from("<I", data, place)[0]
        if end > len(data) or end < place + 4:
            raise InvalidRequestError("a string ends before the length that stands before it", field)
        found.append(data[place + 4 : end])
        place = end
    return found


def _add(response: pb.ModelInferResponse, name: str, answers: Sequence[CheckResponse], *, raw: bool) -> None:
    """Puts one output into a response."""
    output = OUTPUTS[name]
    values = [value for answer in answers for value in output.values(answer)]
    tensor = response.outputs.add(name=name, datatype=output.datatype, shape=_shape(output, len(answers)))
    if output.width:
        tensor.parameters["labels"].string_param = ",".join(HAZARD_SLUGS)
    if raw:
        response.raw_output_contents.append(_pack(output.datatype, values))
    else:
        getattr(tensor.contents, FIELDS[output.datatype]).extend(values)


def _pack(datatype: str, values: Sequence[Value]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values if isinstance(value, bytes))
    return struct.pack(f"<{len(values)}{'d' if datatype == 'FP64' else '?'}", *values)


def _shape(output: Output, rows: int) -> list[int]:
    return [rows, output.width] if output.width else [rows]


def _is_known(name: str, version: str) -> bool:
    return name == MODEL and version in ("", VERSION)


def _require(name: str, version: str) -> None:
    if not _is_known(name, version):
        raise NotFoundError(f"there is no such model; there is {MODEL}, version {VERSION}")
