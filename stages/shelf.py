"""Where fetched backbones lie, one folder a name: what an embedded adapter stands on and is too large to embed."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "CASCADE_BACKBONES"


def shelf() -> Path:
    """The folder: what the environment variable CASCADE_BACKBONES says, else one in the user's cache."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        return Path(given)
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "cascade" / "backbones"
