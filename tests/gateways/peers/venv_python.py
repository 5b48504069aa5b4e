"""Where the peers are, which want packages that do not go into the environment of the tests: ``make gateways``."""

import os
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VENV = Path(os.environ.get("CASCADE_GATEWAYS_VENV", HERE.parents[2] / ".venv-gateways"))


def script(name, folder=HERE):
    """A command that runs a script in the peers' environment; skips the test where there is none."""
    python = VENV / "bin/python"
    if not python.exists():
        pytest.skip("needs the peers' environment: make gateways")
    return [str(python), str(folder / name)]


def envoy():
    """Envoy's binary; skips the test where there is none."""
    found = VENV / "bin/envoy"
    path = str(found) if found.exists() else shutil.which("envoy")
    if not path:
        pytest.skip("needs Envoy: make gateways")
    return path
