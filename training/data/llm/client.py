"""The client of Anthropic's API, with its key out of the environment, and its errors in one clear line."""

from __future__ import annotations

import logging
import os

from anthropic import Anthropic, AnthropicError, APIConnectionError, APIStatusError

from stages.errors import CascadeError

KEY = "ANTHROPIC_API_KEY"


class LabellerError(CascadeError):
    """The language model could not be asked, or its answers are of no use. What was paid for is kept."""

    reason = "LABELLER_FAILED"


def make_client() -> Anthropic:
    """A client for the API, or for ``ANTHROPIC_BASE_URL``.

    Raises:
        LabellerError: the environment has no key.
    """
    key = os.environ.get(KEY)
    if not key:
        raise LabellerError(f"no {KEY} in the environment")
    # Below a warning the SDK logs requests, and with them the texts, whatever ANTHROPIC_LOG says.
    for name in ("anthropic", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return Anthropic(api_key=key, open_telemetry=False)


def describe(error: AnthropicError) -> str:
    """What went wrong, without the API's message: that may quote a request."""
    if isinstance(error, APIStatusError):
        body = error.body if isinstance(error.body, dict) else {}
        inner = body.get("error")
        kind = inner.get("type", "") if isinstance(inner, dict) else ""
        return f"the API answered {error.status_code} {kind}".rstrip() + (
            f" (request {error.request_id})" if error.request_id else ""
        )
    if isinstance(error, APIConnectionError):
        return "the API cannot be reached"
    return f"the API's client failed ({type(error).__name__})"
