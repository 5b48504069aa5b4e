"""What a request may hold, and what is said of one that may not."""

from __future__ import annotations

import pytest

from cascade.content import Part, check_request, parts
from cascade.errors import InvalidRequestError, LimitExceededError, NotFoundError
from cascade.limits import Limits
from cascade.v1.check_pb2 import CheckOptions, CheckRequest, Conversation, Exchange, Turn

SMALL = Limits(max_text_bytes=12, max_turns=2, max_request_id_bytes=4)


def conversation(*texts: str, role: str = "user") -> CheckRequest:
    return CheckRequest(conversation=Conversation(turns=[Turn(role=role, text=text) for text in texts]))


def test_a_text() -> None:
    assert parts(CheckRequest(text="hello"), Limits()) == (Part("text", "hello"),)


def test_both_fields_of_an_exchange() -> None:
    request = CheckRequest(exchange=Exchange(prompt="why", response="because"))
    assert parts(request, Limits()) == (Part("exchange.prompt", "why"), Part("exchange.response", "because"))


def test_every_turn_of_a_conversation() -> None:
    assert parts(conversation("one", "two"), Limits()) == (
        Part("conversation.turns[0].text", "one"),
        Part("conversation.turns[1].text", "two"),
    )


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(CheckRequest(exchange=Exchange(response="because")), "exchange.response", id="no prompt"),
        pytest.param(CheckRequest(exchange=Exchange(prompt="why")), "exchange.prompt", id="no response"),
        pytest.param(conversation("", "two"), "conversation.turns[1].text", id="empty turn"),
    ],
)
def test_an_empty_field_beside_one_with_text_is_skipped(request_: CheckRequest, field: str) -> None:
    assert [part.field for part in parts(request_, Limits())] == [field]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(CheckRequest(), "content", id="nothing"),
        pytest.param(CheckRequest(text=""), "text", id="empty text"),
        pytest.param(CheckRequest(exchange=Exchange()), "exchange", id="empty exchange"),
        pytest.param(CheckRequest(conversation=Conversation()), "conversation", id="no turns"),
        pytest.param(conversation("", ""), "conversation", id="empty turns"),
        pytest.param(conversation("a", role="narrator"), "conversation.turns[0].role", id="unknown role"),
        pytest.param(CheckRequest(text="a", request_id="ääa"), "request_id", id="long id"),
        pytest.param(
            CheckRequest(text="a", options=CheckOptions(hazards=["hate", "S4"])), "options.hazards[1]", id="no slug"
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_by_its_field(request_: CheckRequest, field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parts(request_, SMALL)
    assert caught.value.field == field


@pytest.mark.parametrize("text", [" ", "\n\t", "\0", "a\0b", "\u200b", "\ufeff", "\U0001f600"])
def test_any_text_at_all_is_judged(text: str) -> None:
    assert parts(CheckRequest(text=text), Limits()) == (Part("text", text),)


@pytest.mark.parametrize("role", ["", "user", "assistant", "system", "tool"])
def test_known_roles(role: str) -> None:
    assert parts(conversation("a", role=role), Limits())


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        pytest.param(CheckRequest(text="x" * 13), "bytes of text", id="text"),
        pytest.param(CheckRequest(text="ä" * 7), "bytes of text", id="bytes, not characters"),
        pytest.param(CheckRequest(exchange=Exchange(prompt="x" * 7, response="x" * 6)), "bytes of text", id="together"),
        pytest.param(conversation("a", "b", "c"), "turns", id="turns"),
    ],
)
def test_what_is_too_large_is_refused_with_the_limit(request_: CheckRequest, what: str) -> None:
    with pytest.raises(LimitExceededError) as caught:
        parts(request_, SMALL)
    assert caught.value.what == what
    assert str(caught.value.limit) in str(caught.value)


@pytest.mark.parametrize("text", ["x" * 12, "ä" * 6, "\U0001f600" * 3])
def test_the_limit_itself_is_allowed(text: str) -> None:
    assert parts(CheckRequest(text=text), SMALL)


def test_no_adapter_is_known() -> None:
    with pytest.raises(NotFoundError, match=r"options\.adapter"):
        parts(CheckRequest(text="a", options=CheckOptions(adapter="mine")), Limits())


def test_a_request_is_made_of_python_strings() -> None:
    assert check_request("hello", request_id="7", policy="p", explain=True, hazards=["hate"]) == CheckRequest(
        text="hello", request_id="7", policy="p", options=CheckOptions(explain=True, hazards=["hate"])
    )
    assert check_request("why", "").exchange == Exchange(prompt="why")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"text": "a\ud800"}, "text"),
        ({"text": "\udfff", "response": "b"}, "exchange.prompt"),
        ({"text": "a", "response": "\udc80"}, "exchange.response"),
        ({"text": "a", "request_id": "\ud800"}, "request_id"),
        ({"text": "a", "policy": "\ud800"}, "policy"),
        ({"text": "a", "hazards": ["hate", "\ud800"]}, "options.hazards[1]"),
    ],
)
def test_a_lone_surrogate_is_refused_by_its_field(arguments: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequestError, match="surrogate") as caught:
        check_request(**arguments)  # type: ignore[arg-type]
    assert caught.value.field == field
