"""*request* -> the bytes of its body, bounded in size, in time, and in what all bodies hold at once."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from cascade.errors import InvalidRequestError, LimitExceededError, OverloadedError, StreamIdleError

JSON = "application/json"
BODY_S = 20.0  # from the headers to the last byte: what takes longer does not come from a service
RETRY_S = 1.0
MAX_BODY_BYTES = 8 * 2**20  # a text at its limit takes six times its bytes where every character is escaped


class Bodies:
    """Reads bodies. Lives on one event loop.

    Args:
        most_together: bytes of all that are being read.
    """

    def __init__(self, most_together: int) -> None:
        self._most_together = most_together
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            InvalidRequestError: it does not say that it is JSON.
            LimitExceededError: it is too long, or says that it is.
            OverloadedError: too much is being read.
            StreamIdleError: it does not come.
            ClientDisconnect: its sender is gone.
        """
        # What a page of another origin may send without asking this server first does not say so.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise InvalidRequestError(f"the header content-type must be {JSON}", "content-type")
        if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:  # that it is a number, h11 has seen to
            raise LimitExceededError("bytes of body", MAX_BODY_BYTES)
        chunks, size = [], 0
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.stream():
                    size += len(chunk)
                    self._held += len(chunk)
                    if size > MAX_BODY_BYTES:
                        raise LimitExceededError("bytes of body", MAX_BODY_BYTES)
                    if self._held > self._most_together:
                        raise OverloadedError("too much is under way", RETRY_S)
                    chunks.append(chunk)
        except TimeoutError:
            raise StreamIdleError(f"the body did not come within {BODY_S:g} s") from None
        finally:
            self._held -= size
        return b"".join(chunks)
