"""What a request asks to judge: *request* -> validate -> *parts*, one for each field that holds text.

Every field is judged, none is ignored: an exchange has two parts, a conversation one for each turn. Text of white space
or of NUL bytes is text; only nothing at all is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cascade.errors import InvalidRequestError, LimitExceededError, NotFoundError
from cascade.limits import Limits
from cascade.v1.check_pb2 import CheckRequest
from stages.taxonomy import HAZARD_INDEX

# A role is not judged, so it must not be a place to hide text in: only these, or none at all.
ROLES = ("user", "assistant", "system", "tool")


@dataclass(frozen=True, slots=True)
class Part:
    """One text of a content, with the path of its field, for instance ``conversation.turns[0].text``."""

    field: str
    text: str


def parts(request: CheckRequest, limits: Limits, adapters: Collection[str] = ()) -> tuple[Part, ...]:
    """Validates a request and returns its texts in order, at least one, none of them empty.

    Args:
        request: what is to be judged.
        limits: how large it may be.
        adapters: names of the loaded adapters.

    Raises:
        InvalidRequestError: a field is missing, empty or has no meaning.
        LimitExceededError: the content is too large.
        NotFoundError: the adapter does not exist.
    """
    _check_options(request, limits, adapters)
    kind, fields = _fields(request, limits)
    if sum(len(text.encode()) for _, text in fields) > limits.max_text_bytes:
        raise LimitExceededError("bytes of text", limits.max_text_bytes)
    found = tuple(Part(field, text) for field, text in fields if text)
    if not found:
        raise InvalidRequestError(f"{kind} is empty: there is nothing to judge", kind)
    return found


def check_request(
    text: str,
    response: str | None = None,
    *,
    request_id: str = "",
    policy: str = "",
    explain: bool = False,
    hazards: Iterable[str] = (),
) -> CheckRequest:
    """Makes a request from Python strings: a text, or, with ``response``, a prompt and the answer it got.

    Strings from JSON or a command line may hold lone surrogates, which have no UTF-8 form and so no place in a message.

    Raises:
        InvalidRequestError: a string holds a lone surrogate.
    """
    hazards = list(hazards)
    named = {"request_id": request_id, "policy": policy}
    named |= {"text": text} if response is None else {"exchange.prompt": text, "exchange.response": response}
    named |= {f"options.hazards[{index}]": slug for index, slug in enumerate(hazards)}
    for field, value in named.items():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError(f"{field} holds a lone surrogate, which is no Unicode text", field) from None
    request = CheckRequest(request_id=request_id, policy=policy)
    request.options.explain = explain
    request.options.hazards.extend(hazards)
    if response is None:
        request.text = text
    else:
        request.exchange.prompt = text
        request.exchange.response = response
    return request


def _fields(request: CheckRequest, limits: Limits) -> tuple[str, list[tuple[str, str]]]:
    """The kind of content and its fields, empty ones too."""
    kind = request.WhichOneof("content")
    if kind == "text":
        return kind, [("text", request.text)]
    if kind == "exchange":
        return kind, [("exchange.prompt", request.exchange.prompt), ("exchange.response", request.exchange.response)]
    if kind == "conversation":
        turns = request.conversation.turns
        if len(turns) > limits.max_turns:
            raise LimitExceededError("turns", limits.max_turns)
        for index, turn in enumerate(turns):
            if turn.role and turn.role not in ROLES:
                field = f"conversation.turns[{index}].role"
                raise InvalidRequestError(f"{field} must be one of {', '.join(ROLES)}", field)
        return kind, [(f"conversation.turns[{index}].text", turn.text) for index, turn in enumerate(turns)]
    raise InvalidRequestError("one of text, exchange or conversation must be set", "content")


def _check_options(request: CheckRequest, limits: Limits, adapters: Collection[str]) -> None:
    if len(request.request_id.encode()) > limits.max_request_id_bytes:
        raise InvalidRequestError(f"request_id is longer than {limits.max_request_id_bytes} bytes", "request_id")
    for index, slug in enumerate(request.options.hazards):
        if slug not in HAZARD_INDEX:
            field = f"options.hazards[{index}]"
            raise InvalidRequestError(f"{field} is no hazard: see the taxonomy for the 14 slugs", field)
    if request.options.adapter and request.options.adapter not in adapters:
        known = "no adapter of that name" if adapters else "no adapter but the default one"
        raise NotFoundError(f"options.adapter: this server has {known}")
