"""Triggers: signs that stage 1's score is not to be trusted on a text, however low it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cascade.text.scripts import unread_share

UNREAD_SCRIPT = "unread_script"
VIEWS_DISAGREE = "views_disagree"
EVERY_SCRIPT = "*"

_MAX_UNREAD_SHARE = 0.3
_MAX_DISAGREEMENT = 0.3


def unread_script(text: str, read: Collection[str] = ("Latin",)) -> bool:
    """Whether too many of a text's letters are in scripts that stage 1 does not read; "*" reads all."""
    return EVERY_SCRIPT not in read and unread_share(text, read) > _MAX_UNREAD_SHARE


def views_disagree(scores: Sequence[float]) -> bool:
    """Whether the views of one text got calibrated probabilities that lie too far apart."""
    return bool(scores) and max(scores) - min(scores) > _MAX_DISAGREEMENT


def fired(
    texts: Iterable[str], scores: Iterable[Sequence[float]], read: Collection[str] = ("Latin",)
) -> tuple[str, ...]:
    """The names of the triggers that fire on a request.

    Args:
        texts: the raw text of each part.
        scores: for each part the calibrated probability of each of its views.
        read: the scripts that stage 1 reads.
    """
    names = []
    if any(unread_script(text, read) for text in texts):
        names.append(UNREAD_SCRIPT)
    if any(map(views_disagree, scores)):
        names.append(VIEWS_DISAGREE)
    return tuple(names)
