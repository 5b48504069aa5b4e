"""Where a server's policy and models come from, and whether the files there have changed since."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import PolicyError
from cascade.policy import Policy, default_policy, parse
from stages.registry import EMBEDDED

BUILT_IN = "built-in"


@dataclass(frozen=True)
class Sources:
    """The policy file, None for the built-in policy; and by stage a model's name, folder or hub id."""

    policy: Path | None
    models: Mapping[str, str]

    def read_policy(self) -> tuple[Policy, str]:
        """The policy, and what tells its file from another: the hash of its bytes.

        Raises:
            PolicyError: the file cannot be read, or is no valid policy.
        """
        if self.policy is None:
            policy = default_policy()
            return policy, f"{BUILT_IN} {policy.revision}"
        try:
            data = self.policy.read_bytes()
            return parse(data.decode()), hashlib.sha256(data).hexdigest()
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError([f"{self.policy} cannot be read: {error}"]) from error

    def stamps(self) -> dict[str, str]:
        """By stage a stamp of its model's files: names, sizes and times. Cheap, and another one after any change."""
        return {stage: _stamp(folder_of(spec), spec) for stage, spec in self.models.items()}

    def look(self) -> tuple[str, ...]:
        """The stamps of everything that may change while the server runs."""
        policy = () if self.policy is None else (_stamp(self.policy, ""),)
        return (*policy, *self.stamps().values())


def folder_of(spec: str) -> Path:
    """The folder of an embedded model's name; of everything else the path that it may be."""
    return Path(EMBEDDED.get(spec, spec))


def _stamp(path: Path, spec: str) -> str:
    """A file's, a folder's; of what is neither, say a hub id, its name."""
    if path.is_dir():
        # Links are followed: to turn one to another folder is how a whole model is replaced in one step.
        files = [Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names]
    elif path.exists():
        files = [path]
    else:
        return spec
    digest = hashlib.sha256()
    for file in sorted(files):
        try:
            found = file.stat()
        except OSError:  # it went away a moment ago: by then the stamp is another one anyway
            continue
        digest.update(f"{file}\0{found.st_ino}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
