"""The body of an HTTP message -> *read* -> the texts in it, whatever API it belongs to.

OpenAI's chat, completions and responses and Anthropic's messages are known by their fields; of any other JSON every
string is a text, and so is a form's every value and a plain text's whole. What cannot be read is an error: a filter
that takes what it does not understand for empty lets everything pass.

Pictures, sound and files in a message are not text and not judged; nor are definitions of tools, which the
application writes and not its user.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qsl

from cascade.content import ROLES
from cascade.errors import InvalidRequestError, LimitExceededError, UnsupportedError
from cascade.gateways import sse
from cascade.gateways.json_texts import TwiceError, is_json, load_json, strings, strings_of_any
from cascade.v1.check_pb2 import CheckRequest, Conversation, Exchange, Turn

MAX_BYTES = 16 * 2**20  # of a body, after it was decompressed
LONG = 65_536
FORM = "application/x-www-form-urlencoded"
WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
READ = {"messages", "prompt", "suffix", "input", "system", "instructions"}
# How these APIs are asked to answer; nothing in it is said to the model, but for tools.
OPTIONS = {"anthropic_version", "audio", "betas", "container", "context_management", "conversation", "encoding_format"}
OPTIONS |= {"function_call", "functions", "include", "mcp_servers", "metadata", "modalities", "output_config"}
OPTIONS |= {"previous_response_id", "prompt_cache_key", "prompt_cache_retention", "reasoning", "reasoning_effort"}
OPTIONS |= {"response_format", "safety_identifier", "service_tier", "stop", "stop_sequences", "stream_options"}
OPTIONS |= {"thinking", "tool_choice", "tools", "truncation", "user", "verbosity", "web_search_options"}
ROLE_NAMES = {"developer": "system", "function": "tool", "model": "assistant", "human": "user", "ai": "assistant"}

Rest = ParamSpec("Rest")
Result = TypeVar("Result")


async def read(
    reader: Callable[Concatenate[bytes, Mapping[str, str], Rest], Result],
    body: bytes,
    headers: Mapping[str, str],
    *rest: Rest.args,
    **named: Rest.kwargs,
) -> Result:
    """What a function of this module reads; on a thread if it may take so long that others would have to wait."""
    if len(body) < LONG and "content-encoding" not in headers:
        return reader(body, headers, *rest, **named)
    return await asyncio.to_thread(reader, body, headers, *rest, **named)


def read_request(body: bytes, headers: Mapping[str, str]) -> CheckRequest | None:
    """The request to judge for a request's body; None if there is no text in it.

    Args:
        body: all of it, as it came.
        headers: of the message, their names in lower case.

    Raises:
        InvalidRequestError: the body is not what its headers say, or nothing that could be read.
        UnsupportedError: it is of a kind that has no text, or compressed in an unknown way.
        LimitExceededError: it is too large when decompressed.
    """
    turns = [turn for turn in _turns(_parse(body, headers)) if turn.text]
    if not turns:
        return None
    if len(turns) == 1:
        return CheckRequest(text=turns[0].text)
    return CheckRequest(conversation=Conversation(turns=turns))


def prompt_of(request: CheckRequest | None) -> str:
    """What an answer answers: the latest thing that the user said, or else the latest thing of all."""
    if request is None:
        return ""
    turns = request.conversation.turns
    return next(
        (turn.text for turn in reversed(turns) if turn.role == "user"), turns[-1].text if turns else request.text
    )


def read_response(body: bytes, headers: Mapping[str, str], prompt: str) -> list[CheckRequest]:
    """The requests to judge for an answer's body, one for each of its choices; none if there is no text in it.

    Raises:
        CascadeError: as :func:`read_request`.
    """
    if content_type(headers) == sse.CONTENT_TYPE:
        answers = list(sse.texts(decompress(body, headers)).values())
    else:
        answers = _answers(_parse(body, headers))
    return [answer_request(answer, prompt) for answer in answers if answer]


def answer_request(answer: str, prompt: str) -> CheckRequest:
    """An answer with its prompt, where that is known, as a request."""
    if not prompt:
        return CheckRequest(text=answer)
    return CheckRequest(exchange=Exchange(prompt=prompt, response=answer))


def content_type(headers: Mapping[str, str]) -> str:
    """The media type, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def decompress(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body as its sender wrote it.

    Raises:
        CascadeError: as :func:`read_request`.
    """
    for encoding in reversed(headers.get("content-encoding", "").lower().replace(",", " ").split()):
        if encoding == "identity":
            continue
        if encoding not in WBITS:
            raise UnsupportedError(
                "a body is compressed in a way that this server cannot undo: gzip and deflate it can"
            )
        unpack = zlib.decompressobj(WBITS[encoding])
        try:
            body = unpack.decompress(body, MAX_BYTES)
        except zlib.error:
            raise InvalidRequestError(f"the body is not {encoding}", "body") from None
        if unpack.unconsumed_tail:
            raise LimitExceededError("bytes of body", MAX_BYTES)
        if not unpack.eof or unpack.unused_data:
            raise InvalidRequestError(f"the body is not one whole {encoding} stream", "body")
    return body


def _parse(body: bytes, headers: Mapping[str, str]) -> Any:
    """A body as JSON values; a form's are a list, a text is a string."""
    kind, body = content_type(headers), decompress(body, headers)
    if not body:
        return ""
    declared = kind == "application/json" or kind.endswith("+json")
    if declared or is_json(body):  # many servers parse what looks like JSON, and escapes in it hide words from us
        try:
            return load_json(body)
        except InvalidRequestError as error:
            if declared or not kind.startswith("text/") or isinstance(error, TwiceError):
                raise
    if kind and not kind.startswith("text/") and kind != FORM:
        raise UnsupportedError("only JSON, forms and plain text can be judged: keep other bodies away from this filter")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError("the body is not UTF-8", "body") from None
    return [value for _, value in parse_qsl(text, keep_blank_values=True)] if kind == FORM else text


def _turns(body: Any) -> Iterator[Turn]:
    """What a request says, oldest first."""
    if not isinstance(body, dict) or not body.keys() & {"messages", "prompt", "input"}:
        yield _turn("", strings_of_any(body))
        return
    for key in ("prompt", "input"):
        value = body.get(key)
        if isinstance(value, list) and any(isinstance(token, int | list) for token in value):
            raise UnsupportedError("token ids cannot be judged: send their text")
    for key in ("system", "instructions"):  # Anthropic's, and that of OpenAI's responses
        yield _turn("system", strings(body.get(key)))
    for key in ("messages", "input"):
        items = body.get(key)
        for item in items if isinstance(items, list) else [items]:
            yield _message(item)
    for key in ("prompt", "suffix"):
        for text in strings_of_any(body.get(key)):
            yield _turn("user", [text])
    # What no API has may be what the one behind this filter reads.
    yield _turn("", strings({key: value for key, value in body.items() if key not in READ | OPTIONS}))


def _message(item: object) -> Turn:
    role = item.get("role") if isinstance(item, dict) else "user"
    name = ROLE_NAMES.get(role, role) if isinstance(role, str) else ""
    # A role that is none could hide a text.
    unknown = [role] if isinstance(role, str) and name not in ROLES else []
    if isinstance(item, dict):  # its type is none of a part's: it must not hide what is in it
        item = {key: value for key, value in item.items() if key != "type"}
    return _turn(name if name in ROLES else "", [*unknown, *strings(item)])


def _turn(role: str, texts: Iterable[str]) -> Turn:
    text = "\n".join(texts)
    try:
        return Turn(role=role, text=text)
    except (UnicodeEncodeError, ValueError):  # a lone surrogate, which JSON can write and no message can hold
        raise InvalidRequestError("the body holds a lone surrogate, which is no Unicode text", "body") from None


def _answers(body: Any) -> list[str]:
    """What an answer says, by choice."""
    if isinstance(body, dict):
        if isinstance(choices := body.get("choices"), list):
            return ["\n".join(strings(choice)) for choice in choices]
        for key in ("output", "content"):  # OpenAI's responses, Anthropic's messages
            if isinstance(body.get(key), list):
                return ["\n".join(strings(body[key]))]
    return ["\n".join(strings_of_any(body))]
