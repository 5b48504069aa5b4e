"""Words spelled out letter by letter: "h e l l o", "h.e.l.l.o", "h-o-w t-o"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from cascade.text.traced import Edit, Traced

_UNIT = r"(?:[^\W_]|[@$])"  # a letter, or a digit or sign that may stand for one
_GAP = r"(?:\s++|[-_.*~/\\|·•‧∙⋅・…–—]{1,3}+)"
_GAPS = re.compile(_GAP)
_SPELLED = re.compile(rf"(?<![^\W_])(?<![@$])[^\W\d_](?:{_GAP}{_UNIT}(?!{_UNIT})){{2,}}")

# Korean, and the scripts of South and South-East Asia, have words of one letter, or letters of several code points.
_SPACED_BY_NATURE = re.compile("[\u0900-\u109f\u1100-\u11ff\u1700-\u1cff\uac00-\ud7ff]")


def close(traced: Traced) -> Traced:
    """Joins runs of three or more single letters.

    Within a run the commonest gap stands between letters and goes, and so does any other punctuation; other white
    space stands between words and stays. Where no gap comes twice, as in "8 a.m.", white space means honest spacing.
    """
    return traced.edited(
        Edit(start, end, "")
        for spelled in _SPELLED.finditer(traced.text)
        if _is_spelled(spelled[0])
        for start, end in _gaps_between_letters(traced.text, spelled.start(), spelled.end())
    )


def _is_spelled(run: str) -> bool:
    letters = sum(map(str.isalpha, run))
    units = len(_GAPS.sub("", run))
    return 2 * letters > units and not _SPACED_BY_NATURE.search(run)


def _gaps_between_letters(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    gaps = list(_GAPS.finditer(text, start, end))
    commonest, times = Counter(gap[0] for gap in gaps).most_common(1)[0]
    if times == 1 and any(gap[0].isspace() for gap in gaps):
        return
    for gap in gaps:
        if gap[0] == commonest or not gap[0].isspace():
            yield gap.span()
