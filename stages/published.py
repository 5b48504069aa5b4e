"""Tells which system a published folder without a manifest is: by what is in it, never by its name.

A system is one line here; its module gives a :class:`stages.system.System` and imports torch only inside functions.
"""

from __future__ import annotations

from pathlib import Path

from stages.constitutional import published as constitutional
from stages.contents import Contents
from stages.duoguard import published as duoguard
from stages.errors import ModelError
from stages.hazard import legacy9
from stages.judge import published as judge
from stages.system import System
from stages.tinysafe import published as tinysafe

SYSTEMS: tuple[System, ...] = (
    tinysafe.V1,
    tinysafe.V2,
    legacy9.SYSTEM,
    duoguard.SYSTEM,
    constitutional.SYSTEM,
    judge.SYSTEM,
    tinysafe.EXPORT,
)


def recognise(folder: Path) -> System:
    """The system whose folder this is.

    Raises:
        ModelError: no system's, or a file in it is damaged.
    """
    contents = Contents(folder)
    found = [system for system in SYSTEMS if system.recognises(contents)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{folder}: could be {' or '.join(system.name for system in found)}")
    known = ", ".join(system.name for system in SYSTEMS)
    raise ModelError(f"{folder}: no model folder: no manifest.json, nor the weights of a published system ({known})")
