"""Envoy's side of the filters: *parts of an HTTP exchange* -> messages in the filter's order -> what came back."""

import json
import re
from types import SimpleNamespace

from cascade.gateways.envoy_messages import (
    AuthorizationRequest,
    AuthorizationResponse,
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from cascade.serve import tokens

NONE, STREAMED, BUFFERED = ProcessingMode.NONE, ProcessingMode.STREAMED, ProcessingMode.BUFFERED
PARTIAL, DUPLEX = ProcessingMode.BUFFERED_PARTIAL, ProcessingMode.FULL_DUPLEX_STREAMED
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
CALM, BAD = "a walk in the park", "a terrible hate thing"


def uncommented(sample):
    """A sample configuration with the routes that it has in comments."""
    routes = r"^( +)# - match: .*\n(?:\1#   .*\n)+"
    return re.sub(routes, lambda found: found[0].replace("# ", "", found[0].count("\n")), sample, flags=re.M)


def chat(*texts, **more):
    """The body of a chat request: the texts in turn of the user and the assistant."""
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]
    return json.dumps({"model": "m", "messages": messages} | more).encode()


def completion(text):
    """The body of its answer."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"id": "c1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


def chunk(text, choice=0):
    """One event of a streamed answer."""
    data = {"id": "c1", "choices": [{"index": choice, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def exchange(channel):
    """The method of ext_proc."""
    read = ProcessingResponse.FromString
    return channel.stream_stream(
        "/envoy.service.ext_proc.v3.ExternalProcessor/Process", ProcessingRequest.SerializeToString, read
    )


def decide(channel):
    """The method of ext_authz."""
    read = AuthorizationResponse.FromString
    return channel.unary_unary(
        "/envoy.service.auth.v3.Authorization/Check", AuthorizationRequest.SerializeToString, read
    )


def config(request=BUFFERED, response=NONE):
    return ProtocolConfiguration(request_body_mode=request, response_body_mode=response)


def head(side, headers, *, end=False, **first):
    message = HttpHeaders(end_of_stream=end)
    for name, value in headers.items():
        message.headers.headers.add(key=name, raw_value=value.encode())
    return ProcessingRequest(**{f"{side}_headers": message}, **first)


def body(side, data, *, end=True):
    return ProcessingRequest(**{f"{side}_body": HttpBody(body=data, end_of_stream=end)})


def trailers(side):
    return ProcessingRequest(**{f"{side}_trailers": HttpTrailers()})


def process(channel, *messages, **options):
    """Sends messages as a filter that does not wait, and returns the replies but for those that ask for more time."""
    replies = list(exchange(channel)(iter(messages), timeout=60, **options))
    return [reply for reply in replies if reply.WhichOneof("response")]


def about_request(channel, data, headers=JSON, **options):
    """The last reply to a buffered request."""
    first = head("request", headers, protocol_config=config())
    return process(channel, first, body("request", data), **options)[-1]


def said(reply):
    """What a reply does: its kind, the headers that it sets and takes away, the body that goes on, its status."""
    kind = reply.WhichOneof("response")
    part = getattr(reply, kind)
    if kind == "immediate_response":
        found = {one.header.key: one.header.raw_value.decode() for one in part.headers.set_headers}
        error = json.loads(part.body)["error"]
        return SimpleNamespace(kind=kind, status=part.status.code, headers=found, error=error, details=part.details)
    if kind.endswith("trailers"):
        return SimpleNamespace(kind=kind)
    mutation, change = part.response.header_mutation, part.response.body_mutation
    return SimpleNamespace(
        kind=kind,
        headers={one.header.key: one.header.raw_value.decode() for one in mutation.set_headers},
        removed=list(mutation.remove_headers),
        body=change.streamed_response.body or change.body if change.WhichOneof("mutation") else None,
        end=change.streamed_response.end_of_stream,
    )


def authorize(channel, data, headers=JSON, *, size=None, extensions=None, **options):
    """The decision on a request."""
    request = AuthorizationRequest()
    request.attributes.context_extensions.update(extensions or {})
    http = request.attributes.request.http
    http.headers.update(headers)
    http.raw_body, http.size = data, len(data) if size is None else size
    return decide(channel)(request, timeout=60, **options)


def held(path, *scopes):
    """Writes a file of tokens, one for each scope, and returns them."""
    made = [tokens.new([scope], None, None, None) for scope in scopes]
    path.write_text("".join(f"{entry.line(f'holder{index}')}\n" for index, (_, entry) in enumerate(made)))
    return [token for token, _ in made]
