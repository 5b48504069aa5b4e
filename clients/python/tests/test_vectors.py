"""Every vector of clients/vectors.json, with and without asyncio, on the plain and on the secured server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cascade_client import AsyncClient, CascadeError, CheckResponse, Client, Options, Verdict
from cascade_client._proto.cascade_service_pb2 import ModerateStreamRequest
from cascade_client._proto.check_pb2 import CheckRequest
from cascade_client.aio import _each
from google.protobuf.json_format import MessageToDict, ParseDict

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "vectors.json").read_text(encoding="utf-8"))
OPEN = [vector for vector in VECTORS if "token" not in vector]
DEFAULTS = (None, "", 0, "0", False, [], {})


@pytest.fixture(params=[Client, AsyncClient])
def kind(request):
    return request.param


@pytest.mark.parametrize("vector", OPEN, ids=lambda vector: vector["name"])
async def test_on_a_plain_server(vector, plain, kind):
    await holds(vector, kind, plain)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
async def test_on_a_secured_server(vector, secure, kind):
    if "token" in vector:
        secure = secure | {"token": vector["token"] or None}
    await holds(vector, kind, secure)


async def holds(vector, kind, place):
    """Calls, and compares what comes with what the vector expects."""
    request = vector["request"]
    for member, times in vector.get("repeat", {}).items():
        request = request | {member: request[member] * times}
    client = kind(**place)
    try:
        result = called(client, vector["rpc"], request)
        if hasattr(result, "__aiter__"):
            result = [message async for message in result]
        elif hasattr(result, "__await__"):
            result = await result
        elif hasattr(result, "__next__"):
            result = list(result)
    except CascadeError as error:
        result = error
    finally:
        closed = client.close()
        if closed is not None:
            await closed
    expect = vector["expect"]
    if "answers" in expect:
        assert not isinstance(result, CascadeError), result
        if vector["rpc"] == "CheckStream":
            ids = [message["request"]["requestId"] for message in request]
            result = sorted(result, key=lambda item: ids.index(item.request_id))
        assert len(result) == len(expect["answers"])
        for item, wanted in zip(result, expect["answers"], strict=True):
            compare(item.error or item.response, wanted)
    elif vector["rpc"] == "ModerateStream" and not isinstance(result, CascadeError):
        released = [state.released_upto for state in result]
        assert released == sorted(released)
        compare(result[-1], expect)
    else:
        compare(result, expect)


def called(client, rpc, request):
    """Calls the client's function for a method, with what the vector would send."""
    if rpc == "Check":
        return client.check(ParseDict(request, CheckRequest()), timeout=60)
    if rpc == "BatchCheck":
        return client.check_batch([ParseDict(check, CheckRequest()) for check in request["requests"]], timeout=60)
    if rpc == "CheckStream":
        contents = [ParseDict(message["request"], CheckRequest()) for message in request]
        return client.check_stream(contents, timeout=60)
    start = request[0].get("start")
    if start is None:  # which the client's function would not leave out
        messages = [ParseDict(message, ModerateStreamRequest()) for message in request]
        each = _each if isinstance(client, AsyncClient) else iter
        return client._stream(client._methods.moderate_stream, each(messages), 60)
    return client.moderate_stream(
        [message["delta"] for message in request if "delta" in message],
        prompt=start["prompt"],
        request_id=start.get("requestId", ""),
        options=Options(policy=start.get("policy", "")),
        timeout=60,
    )


def compare(result, expect):
    """Compares one answer or error."""
    if "code" in expect:
        assert isinstance(result, CascadeError)
        assert (result.code.name, result.reason) == (expect["code"], expect["reason"])
        if "field" in expect:
            assert result.fields[0].field == expect["field"]
        assert expect.get("metadata", {}).items() <= result.metadata.items()
        if "retry" in expect:
            assert (result.retry_after is not None) == expect["retry"]
        return
    assert not isinstance(result, CascadeError), result
    reply = MessageToDict(result)
    if "verdict" in expect:
        judged = result if isinstance(result, CheckResponse) else result.verdict
        assert Verdict.Name(judged.verdict) == expect["verdict"]
    for path in expect.get("present", ()):
        assert at(reply, path) not in DEFAULTS, path
    for path in expect.get("absent", ()):
        assert at(reply, path) in DEFAULTS, path
    for path, value in expect.get("equal", {}).items():
        assert at(reply, path) == value, path


def at(reply, path):
    """What lies at a path; None if nothing does."""
    for step in path.split("."):
        if isinstance(reply, list):
            reply = reply[int(step)] if int(step) < len(reply) else None
        else:
            reply = (reply or {}).get(step)
    return reply
