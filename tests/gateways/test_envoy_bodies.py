"""Bodies of HTTP messages: no text that an API knows is lost on the way to the judge, however it is written."""

import gzip
import json
import zlib
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cascade.errors import CascadeError
from cascade.gateways import sse
from cascade.gateways.extract import prompt_of, read_request, read_response

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
ENCODINGS = [
    lambda value: json.dumps(value).encode(),
    lambda value: json.dumps(value, ensure_ascii=False, indent=1).encode(),
    lambda value: b"\xef\xbb\xbf" + json.dumps(value).encode(),
    lambda value: json.dumps(value).encode("utf-16"),
]
JSON = {"content-type": "application/json; charset=utf-8"}


def delta(text):
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def texts(request):
    if request is None:
        return []
    return [turn.text for turn in request.conversation.turns] or [request.text]


@given(st.lists(words, min_size=1, max_size=6), st.sampled_from(ENCODINGS))
@example(["\x00"], ENCODINGS[0])
def test_each_message_of_a_chat_is_a_turn(said, encode):
    messages = [{"role": "user" if index % 2 else "system", "content": text} for index, text in enumerate(said)]
    request = read_request(encode({"model": "m", "messages": messages}), JSON)
    assert texts(request) == said
    if len(said) > 1:
        assert [turn.role for turn in request.conversation.turns] == [one["role"] for one in messages]
    assert prompt_of(request) == (said[len(said) - 1 - len(said) % 2] if len(said) > 1 else said[0])


@given(words, words, words, words)
def test_parts_tools_and_the_systems_prompt_are_read(system, part, argument, result):
    body = {
        "system": [{"type": "text", "text": system}],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": part}, {"type": "image_url", "image_url": {"url": "u"}}],
            },
            {"role": "assistant", "content": None, "tool_calls": [{"id": "i", "function": {"arguments": argument}}]},
            {"role": "function", "content": result},
        ],
    }
    assert texts(read_request(json.dumps(body).encode(), JSON)) == [system, part, argument, result]


@given(words, words)
def test_completions_responses_and_plain_json(first, second):
    for body in (
        {"prompt": [first, second]},
        {"prompt": first, "suffix": second},
        {"instructions": first, "input": second},
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": first}]},
                {"role": "user", "content": second},
            ]
        },
    ):
        assert texts(read_request(json.dumps(body).encode(), JSON)) == [first, second], body
    assert texts(read_request(json.dumps({"text": first}).encode(), JSON)) == [first]
    assert texts(read_request(json.dumps({"a": first, "b": [{"c": second}]}).encode(), JSON)) == [f"{first}\n{second}"]


def test_options_are_not_what_is_said():
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "a b"}],
        "stop": ["x"],
        "user": "y",
        "tools": [{"z": "z"}],
    }
    body |= {
        "response_format": {"type": "json_object"},
        "metadata": {"k": "v"},
        "service_tier": "auto",
        "temperature": 1,
    }
    assert texts(read_request(json.dumps(body).encode(), JSON)) == ["a b"]


@given(anything)
def test_every_string_of_unknown_json_is_read(value):
    request = read_request(json.dumps({"data": value}).encode(), JSON)
    found = "\n".join(texts(request))
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            assert part in found
        elif isinstance(part, list | dict):
            left.extend(part.values() if isinstance(part, dict) else part)


@given(
    st.binary(max_size=200),
    st.sampled_from(["application/json", "text/plain", "", "application/x-www-form-urlencoded", "image/png"]),
)
def test_any_bytes_are_read_or_refused(data, kind):
    for encoding in ("identity", "gzip", "deflate", "br"):
        headers = {"content-type": kind, "content-encoding": encoding}
        for read in (lambda: read_request(data, headers), lambda: read_response(data, headers, "p")):  # noqa: B023
            try:
                read()
            except CascadeError as error:
                assert error.reason in ("INVALID_REQUEST", "UNSUPPORTED", "LIMIT_EXCEEDED")  # noqa: PT017


@given(words)
def test_compressed_bodies_are_read(text):
    body = json.dumps({"prompt": text}).encode()
    for name, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        assert texts(read_request(pack(body), JSON | {"content-encoding": name})) == [text]


@given(words, words)
def test_answers_of_every_api(first, second):
    for body, wanted in (
        ({"choices": [{"message": {"role": "assistant", "content": first}}, {"text": second}]}, [first, second]),
        ({"type": "message", "content": [{"type": "text", "text": first}], "stop_reason": "end_turn"}, [first]),
        ({"output": [{"type": "message", "content": [{"type": "output_text", "text": first}]}]}, [first]),
        ({"error": {"message": first}}, [first]),
    ):
        found = read_response(json.dumps(body).encode(), JSON, "asked")
        assert [(one.exchange.prompt, one.exchange.response) for one in found] == [("asked", text) for text in wanted]


@given(st.lists(words, min_size=1, max_size=8), st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 2000)))
def test_events_are_the_same_however_they_are_cut(said, newline, cuts):
    data = "".join(f"event: x{newline}data: {json.dumps(delta(text))}{newline}{newline}" for text in said).encode()
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    events = sse.Events()
    found = [event for start, end in pairwise(places) for event in events.feed(data[start:end])]
    found += events.end()
    assert b"".join(event.raw for event in found) == data
    assert [text for event in found for _, text in event.texts] == said
    assert sse.texts(data) == {0: "".join(said)}


@pytest.mark.parametrize(
    ("event", "texts"),
    [
        ({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a b"}}, ["a b"]),
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}}, ["{}"]),
        ({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}, []),
        ({"type": "response.output_text.delta", "delta": "a b", "item_id": "i"}, ["a b"]),
        ({"type": "response.output_text.done", "text": "a b"}, []),
        ({"choices": [{"text": "a b", "index": 0}]}, ["a b"]),
        ({"token": {"text": "a b"}}, ["a b"]),
    ],
)
def test_events_of_every_api(event, texts):
    (found,) = sse.Events().feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert [text for _, text in found.texts] == texts
