import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.serve.wire import Malformed, reader
from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest
from cascade.v1.check_pb2 import CheckRequest, Conversation, Exchange, Turn
from cascade.v1.model_service_pb2 import ListModelsResponse

MARK = "MARK"
LONE_SURROGATE = b"\xed\xa0\x80A"  # as long as MARK, and no UTF-8


def broken(message):
    """The message's bytes with MARK overwritten, which no honest client library can send."""
    data = message.SerializeToString()
    assert MARK.encode() in data
    return data.replace(MARK.encode(), LONE_SURROGATE)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (CheckRequest(text=f"a {MARK} z"), "text"),
        (CheckRequest(request_id=MARK, text="fine"), "request_id"),
        (CheckRequest(exchange=Exchange(prompt="fine", response=MARK)), "exchange.response"),
        (
            CheckRequest(
                conversation=Conversation(turns=[Turn(role="user", text="fine"), Turn(role="user", text=MARK)])
            ),
            "conversation.turns[1].text",
        ),
        (CheckRequest(text="fine", options={"hazards": ["hate", MARK]}), "options.hazards[1]"),
        (BatchCheckRequest(requests=[CheckRequest(text="fine"), CheckRequest(policy=MARK)]), "requests[1].policy"),
        (CheckStreamRequest(request=CheckRequest(text=MARK)), "request.text"),
        (ListModelsResponse(models=[{"files": {MARK: "0"}}]), "models[0].files[0].key"),
    ],
)
def test_names_the_field_that_is_not_utf8(message, field):
    found = reader(type(message))(broken(message))
    assert isinstance(found, Malformed)
    assert found.error.field == field
    assert field in str(found.error)


def test_keeps_the_id_of_a_broken_check():
    check = CheckRequest(request_id="mine", text=MARK)
    assert reader(CheckRequest)(broken(check)).request_id == "mine"
    assert reader(CheckStreamRequest)(broken(CheckStreamRequest(request=check))).request_id == "mine"
    assert reader(CheckRequest)(broken(CheckRequest(request_id=MARK))).request_id == ""


def test_bytes_that_are_no_message_have_no_field():
    found = reader(CheckRequest)(b"\xff\xff\xff\xff not protobuf")
    assert isinstance(found, Malformed)
    assert found.error.field == ""
    assert "cascade.v1.CheckRequest" in str(found.error)


def test_reads_what_is_well_formed():
    check = CheckRequest(request_id="1", text="a\x00b \U0001f600 ÿ")
    assert reader(CheckRequest)(check.SerializeToString()) == check


@given(st.binary(max_size=200))
def test_never_raises(data):
    for kind in (CheckRequest, BatchCheckRequest, CheckStreamRequest):
        assert isinstance(reader(kind)(data), kind | Malformed)
