"""JSON of no particular schema -> *the texts in it*, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cascade.errors import InvalidRequestError

# Parts of a message that hold no text. A document may: only its source says.
NO_TEXT = ["image", "image_url", "input_image", "audio", "input_audio", "video", "file", "input_file", "base64", "url"]
# Keys whose strings name things, and tokens that repeat the text.
NAMES = {"type", "id", "index", "role", "status", "call_id", "tool_call_id", "tool_use_id", "item_id", "cache_control"}
NAMES |= {"finish_reason", "stop_reason", "logprobs", "model", "object", "signature", "encrypted_content"}


class TwiceError(InvalidRequestError):
    """An object has a key twice."""


def strings(value: object) -> Iterator[str]:
    """The texts in a part of a message, in order."""
    return _walk(
        value, lambda part: [] if part.get("type") in NO_TEXT else [part[key] for key in part if key not in NAMES]
    )


def strings_of_any(value: object) -> Iterator[str]:
    """Every string in JSON that is of no known API, but for the keys."""
    return _walk(value, lambda part: part.values())


def _walk(value: object, inside: Callable[[dict[str, Any]], Iterable[object]]) -> Iterator[str]:
    left = [value]
    while left:  # no recursion: how deep JSON may nest is for its parser to say
        part = left.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, list | dict):
            left.extend(reversed(list(part if isinstance(part, list) else inside(part))))


def is_json(body: bytes) -> bool:
    """Whether a body looks like a JSON object or array, whatever its headers say."""
    return body.lstrip(b"\xef\xbb\xbf \t\r\n\0")[:1] in (b"{", b"[")


def load_json(body: bytes) -> Any:
    """Strict JSON: of two values for one key parsers choose differently, so that one of them would go unseen.

    Raises:
        InvalidRequestError: it is no such JSON; TwiceError if it would be but for a key.
    """
    try:
        return json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InvalidRequestError("the body is not JSON, or nested too deep", "body") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise TwiceError("an object of the body has the same key twice", "body")
    return found
