"""How large a request may be, and how long it may take. What exceeds a limit is told by name, never cut in silence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one request and on what waits.

    Attributes:
        max_text_bytes: UTF-8 bytes of the whole content, all fields together.
        max_turns: turns of a conversation.
        max_request_id_bytes: UTF-8 bytes of a request id.
        max_batch: requests of a batch.
        max_queued_windows: windows that wait for one stage; also the most that one request may need.
        stage_timeout_s: what a stage may take for one batch before it counts as failed.
    """

    max_text_bytes: int = 1_000_000
    max_turns: int = 256
    max_request_id_bytes: int = 256
    max_batch: int = 256
    max_queued_windows: int = 8192
    stage_timeout_s: float = 30.0
