"""The corpus written for this project: harmless prompts that sound dangerous, and prompts of each hazard.

One prompt a line: ``training/corpus/harmless/TOPIC.txt`` are safe, ``training/corpus/hazards/SLUG.txt`` unsafe and of
that hazard. Nothing about child exploitation was written: the public sets have to do for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from training.data.rows import DataError, Row

CORPUS = Path(__file__).parents[1] / "corpus"
WRITTEN = {"written.harmless": ("harmless", 0), "written.hazards": ("hazards", 1)}  # set -> (folder, unsafe)
LICENCE = ("Apache-2.0", "permissive")


def read_written(name: str) -> Iterator[Row]:
    """Yields the rows of ``written.harmless`` or ``written.hazards``; ``labels`` holds the file's name.

    Raises:
        DataError: a file of the corpus has an empty line.
    """
    folder, unsafe = WRITTEN[name]
    for path in sorted((CORPUS / folder).glob("*.txt")):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not text.strip():
                raise DataError(f"{path.name}:{number}: an empty line, each line is one prompt")
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            yield Row(f"{path.stem}-{digest}", name, text.strip(), unsafe, (path.stem,), "en")
