"""Whether a text in Latin letters can be English, told by the words that no English text of some length goes without.

The share of these words is 0.4 in an ordinary prompt and almost always 0 in any other language, so that a list does
what a language identifier would, in microseconds and without a model of its own; which other language it is does not
matter here. English whose small words were put into other languages is told in the same way.
"""

from __future__ import annotations

import re

_COMMON = frozenset(
    """
    about after again always and another answer any are around ask away back be because been before begin being below
    best better between both build but buy by call called can can't change city close common compare convert could
    country create days describe did didn't difference different do does doesn't doing don't done down draw each earth
    easy end english enough even ever every example explain eye family famous father few find first five follow
    following food for found four free friend from game generate get getting girl give given go goes going good got
    great group had hard has have having head hello help her here hers him himself his home house how i'll i'm i've
    identify if implement install into isn't it's its itself just keep know known last later learn left let let's letter
    life light like list little live long look love made make makes making many may mean meaning men might money more
    most mother move much must my myself need never new news next not now number of off often old one only open other
    our out own paper part people phone picture play please provide read really rewrite right run said same saw say
    school second set she should show small some someone something sometimes start steps stop story study such suggest
    summarize take tell ten than thank that that's the their them then there these they thing things think this those
    thought three through time to today together told too translate tree turn two under until up us use used user using
    very want wants watch water way ways we we're well went were what what's when where which while white who whom whose
    why with within without woman women won't word words work world would write writing wrong year years yes yet you
    you're your yours yourself
    """.split()  # noqa: SIM905 - a list of words reads best as text
)
# Words of English that other languages have too: they prove nothing, and are not counted.
_SHARED = frozenset(
    """
    a all also am an animal as at code come design do edit he i important in is it job mail me name no on or page person
    place plan plant point popular possible prompt question real see sentence simple so son still system table text type
    was will
    """.split()  # noqa: SIM905
)

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_FEWEST = 4  # different words: of fewer nothing can be told
_LEAST = 0.16  # the share of common ones among them
_LOOKED_AT = 4000  # code points of a text


def cannot_be_english(text: str) -> bool:
    """Whether a text has words enough to tell, and hardly any of them is among the commonest of English."""
    words = set(_WORD.findall(text[:_LOOKED_AT].lower().replace("’", "'"))) - _SHARED
    return len(words) >= _FEWEST and len(words & _COMMON) < _LEAST * len(words)
