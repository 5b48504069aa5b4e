"""Envoy's ext_proc messages: *headers, bodies, refusals* -> ``ProcessingResponse``. No decision is made here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cascade.gateways.envoy_messages import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    Duration,
    HeaderMutation,
    HeadersResponse,
    HeaderValue,
    HeaderValueOption,
    HttpStatus,
    ImmediateResponse,
    ProcessingMode,
    ProcessingResponse,
    StreamedBodyResponse,
    Struct,
    TrailersResponse,
)
from cascade.gateways.replies import HEADERS, Refusal, facts_of
from cascade.v1.check_pb2 import CheckResponse

NONE, STREAMED, BUFFERED = ProcessingMode.NONE, ProcessingMode.STREAMED, ProcessingMode.BUFFERED
PARTIAL, DUPLEX = ProcessingMode.BUFFERED_PARTIAL, ProcessingMode.FULL_DUPLEX_STREAMED
GRPC = ProcessingMode.GRPC
METADATA = "cascade"  # the namespace of what is told to later filters and the access log
CHUNK = 65_536  # bytes of a body that Envoy advises to send at a time


def header_map(headers: Any) -> dict[str, str]:
    """A ``HeaderMap`` by name; of a name that comes twice the values are joined, as HTTP has it."""
    found: dict[str, str] = {}
    for header in headers.headers:
        value = header.raw_value.decode("latin-1") or header.value
        found[header.key.lower()] = f"{found[header.key.lower()]}, {value}" if header.key.lower() in found else value
    return found


def options(headers: Mapping[str, str]) -> list[Any]:
    """Headers that replace what is there."""
    overwrite = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return [
        HeaderValueOption(header=HeaderValue(key=name, raw_value=value.encode()), append_action=overwrite)
        for name, value in headers.items()
    ]


def metadata(side: str, answer: CheckResponse | None) -> Any:
    """An answer as dynamic metadata, by the side that it is about: "request" or "response"."""
    if answer is None:
        return None
    found = Struct()
    found.update({METADATA: {side: facts_of(answer)}})
    return found


def headers_reply(
    side: str, headers: Mapping[str, str], *, remove: Iterable[str] = (), answer: CheckResponse | None = None
) -> Any:
    """The headers go on, with these; ours are taken away where they are not set, so that nobody can forge them."""
    gone = [*remove, *(name for name in HEADERS if name not in headers)]
    mutation = HeaderMutation(set_headers=options(headers), remove_headers=gone)
    reply = HeadersResponse(response=CommonResponse(header_mutation=mutation))
    return ProcessingResponse(**{f"{side}_headers": reply}, dynamic_metadata=metadata(side, answer))


def body_reply(
    side: str, body: bytes | None, headers: Mapping[str, str] | None = None, answer: CheckResponse | None = None
) -> Any:
    """This piece of a body goes on as ``body``, or unchanged where that is None."""
    common = CommonResponse(header_mutation=HeaderMutation(set_headers=options(headers or {})))
    if body is not None:
        common.body_mutation.CopyFrom(BodyMutation(body=body) if body else BodyMutation(clear_body=True))
    return ProcessingResponse(
        **{f"{side}_body": BodyResponse(response=common)}, dynamic_metadata=metadata(side, answer)
    )


def streamed(side: str, body: bytes, *, end: bool, answer: CheckResponse | None = None) -> Iterator[Any]:
    """Pieces of a body in the mode FULL_DUPLEX_STREAMED; the last of them ends it if ``end`` says so."""
    for start in range(0, len(body), CHUNK) or ([0] if end else []):
        last = start + CHUNK >= len(body)
        piece = StreamedBodyResponse(body=body[start : start + CHUNK], end_of_stream=end and last)
        reply = BodyResponse(response=CommonResponse(body_mutation=BodyMutation(streamed_response=piece)))
        told = metadata(side, answer) if last else None
        yield ProcessingResponse(**{f"{side}_body": reply}, dynamic_metadata=told)


def trailers_reply(side: str) -> Any:
    """The trailers go on."""
    return ProcessingResponse(**{f"{side}_trailers": TrailersResponse()})


def immediate(refusal: Refusal, side: str, answer: CheckResponse | None = None) -> Any:
    """This answer instead."""
    reply = ImmediateResponse(
        status=HttpStatus(code=refusal.status),
        headers=HeaderMutation(set_headers=options(refusal.headers)),
        body=refusal.body,
        details=refusal.details,
    )
    return ProcessingResponse(immediate_response=reply, dynamic_metadata=metadata(side, answer))


def more_time(seconds: float) -> Any:
    """The reply to what came last takes so much longer."""
    duration = Duration()
    duration.FromMilliseconds(round(1000 * seconds))
    return ProcessingResponse(override_message_timeout=duration)
