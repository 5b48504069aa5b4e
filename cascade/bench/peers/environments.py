"""A virtual environment for each peer, in a cache folder: *packages* -> made once, by this Python and its pip."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import stages
from cascade.bench.peers.catalogue import Peer
from cascade.errors import CascadeError

APPS = Path(__file__).parent / "apps"
INSTALL_S = 1800.0
VERSIONS = "import json; from importlib.metadata import distributions as d; "
VERSIONS += "print(json.dumps({i.name.lower().replace('_', '-'): i.version for i in d()}))"


class PeerError(CascadeError):
    """A peer cannot be run here; the message says why."""

    reason = "PEER_UNUSABLE"


@dataclass(frozen=True, slots=True)
class Environment:
    """A peer's own Python, with the versions that it has, and what its processes find in their environment."""

    python: Path
    versions: dict[str, str]
    variables: dict[str, str]
    hub: Path


def default_cache() -> Path:
    """Where environments are kept: ``cascade/peers`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cascade" / "peers"


async def prepare(peer: Peer, model: Path, cache: Path) -> Environment:
    """The environment of a peer; what was made before for the same packages and Python is used again.

    Args:
        peer: whose.
        model: the folder of the model that it is to serve.
        cache: where environments are kept.

    Raises:
        PeerError: its packages cannot be installed, or the model not be put into its form.
    """
    folder = cache / peer.distribution
    python, made = folder / "bin" / "python", folder / "made.json"
    wanted = {"packages": list(peer.packages), "python": sys.version}
    if _read(made) != wanted:
        bare = [] if peer.packages else ["--without-pip"]
        await _run([sys.executable, "-m", "venv", "--clear", *bare, str(folder)], {})
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
        if peer.packages:
            await _run([str(python), *pip, *peer.packages], {})
        made.write_text(json.dumps(wanted), encoding="utf-8")
    variables = _variables(_library(cache), model)
    hub = cache / "hub" / model.name
    if peer.hub:
        await _run([str(python), str(APPS / "hub_folder.py"), str(model), str(hub)], variables)
    versions = json.loads(await _run([str(python), "-c", VERSIONS], {}))
    return Environment(python, versions, variables, hub)


def _library(cache: Path) -> Path:
    """A folder with nothing but our package ``stages``, for PYTHONPATH: what lies beside it stays out of sight."""
    library = cache / "library"
    library.mkdir(parents=True, exist_ok=True)
    link, package = library / "stages", Path(stages.__file__).parent
    if not link.exists() or link.resolve() != package.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(package, target_is_directory=True)
    return library


def _variables(library: Path, model: Path) -> dict[str, str]:
    """The environment of a peer's processes: offline, one thread a library, no reports to anybody."""
    foreign = ("CASCADE_", "PYTHON", "VIRTUAL_ENV", "GRPC_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return own | {
        "PYTHONPATH": f"{library}{os.pathsep}{APPS}",
        "PYTHONDONTWRITEBYTECODE": "1",  # our programs lie where they may not be theirs to write
        "BENCH_MODEL": str(model),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _read(made: Path) -> object:
    try:
        return json.loads(made.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # never finished


async def _run(command: Sequence[str], variables: dict[str, str]) -> str:
    """Runs a program to its end; returns its stdout.

    Raises:
        PeerError: it failed; the message is the last line that it said.
    """
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            env=variables or None,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_S,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"{Path(command[-1]).name}: not done within {INSTALL_S:g} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        problem = next((line for line in reversed(said) if "rror" in line), said[-1] if said else "it said nothing")
        raise PeerError(problem.strip()[:400])
    return str(done.stdout)
