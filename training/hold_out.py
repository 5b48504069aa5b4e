"""Writes the rows that neither stage trained on as a labelled file, for ``cascade bench`` and ``cascade tune``.

    python -m training.hold_out --data DIR --out FILE [--kind chat] [--lang en]

The file holds other people's texts: it belongs beside the data, never into the repository.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.data.writing import writing
from training.held_out import KINDS, HeldOut, held_out


def rows(held: HeldOut, kinds: Sequence[str] = tuple(KINDS), lang: str | None = None) -> Iterator[dict[str, Any]]:
    """The labelled rows of some kinds of traffic, in the uniform form; ``lang`` leaves one language only."""
    chosen = sorted({int(number) for kind, numbers in held.kinds().items() if kind in kinds for number in numbers})
    for number in chosen:
        row = held.rows[number]
        if lang is None or row.lang == lang:
            unsafe = int(held.unsafe[number])
            yield {"id": row.id, "source": held.sources[number], "lang": row.lang, "text": row.text, "unsafe": unsafe}


def main() -> None:
    """Writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of sets in the uniform form")
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--kind", action="append", choices=KINDS, help="kind of traffic; may be repeated; default: all")
    parser.add_argument("--lang", help="rows of this language only")
    arguments = parser.parse_args()
    found = list(rows(held_out(arguments.data), arguments.kind or tuple(KINDS), arguments.lang))
    with writing(arguments.out) as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
    print(f"{len(found)} rows, {sum(row['unsafe'] for row in found)} of them unsafe")


if __name__ == "__main__":
    main()
