"""Server-sent events of a model's answer: *bytes* -> events, each with the texts that it adds to which choice.

Known are the chunks of OpenAI's chat and completions, the events of its responses, and those of Anthropic's messages.
Of anything else every string is a text of choice 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.errors import InvalidRequestError, LimitExceededError
from cascade.gateways.json_texts import is_json, load_json, strings, strings_of_any

CONTENT_TYPE = "text/event-stream"
DONE = "[DONE]"
MAX_EVENT_BYTES = 2**20
BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its bytes as they came, with the blank line behind it, and the texts in it by choice."""

    raw: bytes
    texts: Sequence[tuple[int, str]]


class Events:
    """Cuts a stream of bytes into events; what they hold together is what was given, byte by byte."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are whole now.

        Raises:
            InvalidRequestError: one is not UTF-8, or its JSON is broken.
            LimitExceededError: one is too long.
        """
        self._rest += data
        while blank := BLANK_LINE.search(self._rest):
            raw, self._rest = self._rest[: blank.end()], self._rest[blank.end() :]
            yield _event(raw)
        if len(self._rest) > MAX_EVENT_BYTES:
            raise LimitExceededError("bytes of one event", MAX_EVENT_BYTES)

    def end(self) -> Iterator[Event]:
        """What is left when the stream has ended, if there is anything.

        Raises:
            InvalidRequestError: as :meth:`feed`.
        """
        raw, self._rest = self._rest, b""
        if raw:
            yield _event(raw)


def texts(body: bytes) -> dict[int, str]:
    """The whole text of each choice."""
    events, found = Events(), dict[int, str]()
    for event in [*events.feed(body), *events.end()]:
        for choice, text in event.texts:
            found[choice] = found.get(choice, "") + text
    return found


def _event(raw: bytes) -> Event:
    try:
        lines = raw.decode().lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError:
        raise InvalidRequestError("an event is not UTF-8", "body") from None
    data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
    if not data or data.strip() == DONE:
        return Event(raw, ())
    if not is_json(data.encode()):
        return Event(raw, ((0, data),))
    found = tuple(_texts(load_json(data.encode())))
    try:
        "".join(text for _, text in found).encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("an event holds a lone surrogate, which is no Unicode text", "body") from None
    return Event(raw, found)


def _texts(data: Any) -> Iterator[tuple[int, str]]:
    kind = data.get("type") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(data.get("choices"), list):
        for choice in data["choices"]:
            index = choice.get("index") if isinstance(choice, dict) else 0
            yield from ((index if isinstance(index, int) else 0, text) for text in strings(choice))
    elif isinstance(kind, str) and kind.startswith("response."):
        # What OpenAI's other events of a response say was a delta before.
        if isinstance(data.get("delta"), str):
            yield 0, data["delta"]
    elif isinstance(kind, str) and kind.startswith(("message", "content_block", "ping")):
        for key in ("message", "content_block", "delta"):
            parts = data.get(key)
            parts = parts.get("content") if key == "message" and isinstance(parts, dict) else parts
            yield from ((0, text) for text in strings(parts))
    else:
        yield from ((0, text) for text in strings_of_any(data))
