"""Moderates a text while it is written: *deltas* -> readings -> verdicts, and how much of the text may be shown."""

from cascade.streaming.moderation import Moderation

__all__ = ["Moderation"]
