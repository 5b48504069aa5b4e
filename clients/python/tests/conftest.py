"""Where the servers are that the tests talk to: run-tests says it in the environment."""

from __future__ import annotations

import os

import pytest

PATIENCE_S = 60.0  # the machine may be busy


@pytest.fixture(scope="session")
def plain():
    """What makes a client of a server that anybody may call."""
    return {"target": os.environ["CASCADE_TEST_PLAIN"], "timeout": PATIENCE_S}


@pytest.fixture(scope="session")
def secure():
    """What makes a client of a server with TLS that wants a token."""
    if "CASCADE_TEST_SECURE" not in os.environ:
        pytest.skip("no secured server was named")
    names = {"target": "CASCADE_TEST_SECURE", "ca": "CASCADE_TEST_CA", "token": "CASCADE_TEST_TOKEN"}
    return {name: os.environ[variable] for name, variable in names.items()} | {"timeout": PATIENCE_S}
