"""The published sets by name."""

from __future__ import annotations

from training.data.rows import DataError
from training.data.sources import aegis2, beavertails, civilcomments, mlcommons_synth, toxicchat, wildguardmix
from training.data.sources.source import Source

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        toxicchat.SOURCE,
        wildguardmix.PROMPTS,
        wildguardmix.EXCHANGES,
        civilcomments.SOURCE,
        beavertails.SOURCE,
        aegis2.PROMPTS,
        aegis2.EXCHANGES,
        mlcommons_synth.SOURCE,
    )
}


def find_source(name: str) -> Source:
    """The source of that name.

    Raises:
        DataError: there is none.
    """
    if name not in SOURCES:
        raise DataError(f"{name}: no such source; there are {', '.join(SOURCES)}")
    return SOURCES[name]
