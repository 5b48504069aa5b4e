"""The examples for LangChain, the OpenAI Agents SDK and LiteLLM, in these frameworks, against the real server."""

import json
import os
import subprocess

import pytest

from tests.gateways.peers import venv_python
from tests.serve.guarded import Guarded

CALM = "a walk in the park"
PACKAGES = {"langchain": "langchain_core", "openai_agents": "agents", "litellm": "litellm"}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", PACKAGES)
def test_calm_passes_and_bad_does_not(name, tmp_path):
    script = venv_python.script("guardrails.py")
    if not any(venv_python.VENV.glob(f"lib/python*/site-packages/{PACKAGES[name]}/__init__.py")):
        pytest.skip(f"{name} is not in the peers' environment: make gateways")
    server = Guarded()
    try:
        environment = os.environ | {"PEERS_FOLDER": str(tmp_path)}
        done = subprocess.run(
            [*script, server.address, name], env=environment, capture_output=True, text=True, timeout=380
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [CALM, ["blocked", "hate"], ["blocked", "hate"]]
