"""The corpus written for this project: prompts of each hazard, harmless ones that sound dangerous, and exchanges.

One text a line, under ``training/corpus``:

- ``harmless/TOPIC.txt`` are safe, ``hazards/SLUG.txt`` unsafe and of that hazard, all in English;
- ``languages/LANG.tsv`` has both in other languages: what it is ("harmless" or a slug) and the prompt;
- ``exchanges.tsv`` has what an answer is, given its prompt, then the prompt and the answer;
- ``refusals.txt`` has answers that make an exchange safe, whatever was asked.

Nothing about child exploitation was written: the public sets have to do for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cascade.text.joint import Said, join
from stages.taxonomy import HAZARD_SLUGS
from training.data.groups import PAIR
from training.data.rows import DataError, Row

CORPUS = Path(__file__).parents[1] / "corpus"
LICENCE = ("Apache-2.0", "permissive")
HARMLESS = "harmless"


def read_written(name: str) -> Iterator[Row]:
    """Yields the rows of a written set, one of ``WRITTEN``; the first label is the file's name or the line's own.

    Raises:
        DataError: a line of the corpus is empty or not of its file's form.
    """
    yield from WRITTEN[name](name)


def _topics(name: str) -> Iterator[Row]:
    folder = name.removeprefix("written.")
    for path in sorted((CORPUS / folder).glob("*.txt")):
        for (text,) in _lines(path, 1):
            yield _row(name, path.stem, text, unsafe=folder != HARMLESS)


def _languages(name: str) -> Iterator[Row]:
    for path in sorted((CORPUS / "languages").glob("*.tsv")):
        for label, text in _lines(path, 2):
            yield _row(name, label, text, unsafe=label != HARMLESS, lang=path.stem)


def _exchanges(name: str) -> Iterator[Row]:
    """Each exchange as the pipeline reads it: the two jointly, and the answer alone, which says the same of itself."""
    for label, prompt, answer in _lines(CORPUS / "exchanges.tsv", 3):
        pair = PAIR + hashlib.sha256(prompt.encode()).hexdigest()[:12]
        for text in (jointly(prompt, answer), answer):
            yield _row(name, label, text, pair, unsafe=label != HARMLESS)


def _refused(name: str) -> Iterator[Row]:
    """Every prompt of ``written.hazards`` with one of the refusals, always the same one."""
    refusals = [text for (text,) in _lines(CORPUS / "refusals.txt", 1)]
    for row in read_written("written.hazards"):
        refusal = refusals[int.from_bytes(hashlib.sha256(row.text.encode()).digest()[:4]) % len(refusals)]
        yield _row(name, HARMLESS, jointly(row.text, refusal), unsafe=False)


WRITTEN: dict[str, Callable[[str], Iterator[Row]]] = {
    "written.harmless": _topics,
    "written.hazards": _topics,
    "written.languages": _languages,
    "written.exchanges": _exchanges,
    "written.refused": _refused,
}


def jointly(prompt: str, answer: str) -> str:
    """A prompt with its answer as the pipeline reads them together."""
    together, _ = join([Said("user", "prompt", prompt), Said("assistant", "response", answer)])
    return together.text


def _lines(path: Path, columns: int) -> Iterator[list[str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = [column.strip() for column in line.split("\t")]
        if not line.strip():
            raise DataError(f"{path.name}:{number}: an empty line, each line is one text")
        if len(found) != columns or not all(found):
            raise DataError(f"{path.name}:{number}: {columns} columns with text are wanted")
        if columns > 1 and found[0] != HARMLESS and found[0] not in HAZARD_SLUGS:
            raise DataError(f"{path.name}:{number}: {found[0]} is no hazard")
        yield found


def _row(name: str, label: str, text: str, *more: str, unsafe: bool, lang: str = "en") -> Row:
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Row(f"{label}-{digest}", name, text, int(unsafe), (label, *more), lang)
