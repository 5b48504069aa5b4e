"""Whatever JSON comes, it is a request of the contract or told by its field, and never quoted."""

import json

from google.protobuf.json_format import ParseDict, ParseError
from hypothesis import example, given
from hypothesis import strategies as st

from cascade.errors import InvalidRequestError
from cascade.gateways.json_request import parse, to_message
from cascade.v1.check_pb2 import CheckRequest

KEYS = (
    "requestId", "request_id", "text", "exchange", "prompt", "response", "conversation", "turns", "role", "policy",
    "options", "explain", "bypassCache", "hazards", "adapter", "a text of somebody", "unknown",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)


def outcome(function, *arguments):
    """What a function returns, or what it raises because of what it was given."""
    try:
        return function(*arguments), None
    except (InvalidRequestError, ParseError) as error:
        return None, error


@given(OBJECTS)
@example({"options": {"hazards": [None]}})
@example({"conversation": {"turns": [None]}})
@example({"text": None, "exchange": None})
def test_an_object_is_a_request_or_refused_by_a_field_of_it(body):
    expected, _ = outcome(ParseDict, body, CheckRequest())
    found, error = outcome(to_message, body, CheckRequest)
    assert found == expected
    if error is not None:
        assert "somebody" not in str(error)
        assert error.field.partition(".")[0].partition("[")[0] in {*KEYS, "(a name that is none)", ""}


@given(st.binary(max_size=40) | OBJECTS.map(lambda body: json.dumps(body).encode()))
@example(b'{"text": "\\ud800"}')
@example(b"[" * 10_000)
@example(b'{"a": 1e999999}')
@example(b"1" * 10_000)
def test_bytes_are_an_object_or_refused(data):
    found, error = outcome(parse, data)
    if error is None:
        assert found == json.loads(data)
    else:
        assert error.field == ""
