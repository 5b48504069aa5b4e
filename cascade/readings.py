"""How a content is read: *request, parts* -> readings, each a text that a stage scores, with what its score is for.

Each field is read alone, in all its views. An exchange and a conversation are read jointly, too, for what no field says
alone. In a conversation the last turn is what is judged: the older ones were judged when they were the last. They count
through the joint reading only, and not if that was over the threshold before the last turn, unless it makes it worse.
A turn that goes on with an earlier one of the same speaker is read once more with it, as the one message that it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from cascade.content import Part
from cascade.text.joint import DEFAULT_ROLE, Joint, Said, join, keep_markers
from cascade.text.pieces import last_message
from cascade.text.views import View, views
from cascade.v1.check_pb2 import CheckRequest


class Use(Enum):
    """What the score of a reading is for."""

    OWN = auto()  # a field that is judged
    OLDER = auto()  # a turn that was judged before
    JOINT = auto()  # the fields together
    BEFORE = auto()  # the fields together without the last one
    MESSAGE = auto()  # the last turn and the earlier ones that it goes on with, in one piece


@dataclass(frozen=True, slots=True)
class Reading:
    """One view of one part of the content, or, with ``joint``, of several parts together."""

    part: Part
    view: View
    use: Use = Use.OWN
    joint: Joint | None = None

    def places(self, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Field, first and last raw code point of what the view has between two places."""
        start, end = self.view.raw_span(start, end)
        if self.joint:
            yield from self.joint.places(start, end)
        else:
            yield self.part.field, start, end


def judged(content: Sequence[Part]) -> Sequence[Part]:
    """The parts that are judged: of a conversation the last one that has text."""
    return content[-1:] if content[0].field.startswith("conversation.") else content


def readings(request: CheckRequest, content: Sequence[Part]) -> tuple[Reading, ...]:
    """All views of all parts, and then of the joint texts."""
    own = {part.field for part in judged(content)}
    found = [
        Reading(part, view, Use.OWN if part.field in own else Use.OLDER)
        for part in content
        for view in views(part.text)
    ]
    if len(content) > 1:
        roles = _roles(request)
        said = [Said(roles[part.field] or DEFAULT_ROLE, part.field, part.text) for part in content]
        together, before = join(said)
        found += _joint(together, Use.JOINT)
        if len(own) < len(content):
            found += _joint(before, Use.BEFORE)
            message = last_message(said)
            found += _joint(message, Use.MESSAGE) if message else []
    return tuple(found)


def _joint(joint: Joint, use: Use) -> list[Reading]:
    part = Part(use.name.lower(), joint.text)
    return [Reading(part, _with_its_markers(view, joint), use, joint) for view in views(joint.text)]


def _with_its_markers(view: View, joint: Joint) -> View:
    """A view that has no markers but those of the joint text."""
    if view.offsets is None:
        return view
    return replace(view, text=keep_markers(joint.text, view.text, view.offsets))


def _roles(request: CheckRequest) -> dict[str, str]:
    if request.HasField("exchange"):
        return {"exchange.prompt": "user", "exchange.response": "assistant"}
    turns = request.conversation.turns
    return {f"conversation.turns[{index}].text": turn.role for index, turn in enumerate(turns)}
