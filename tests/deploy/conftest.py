"""The real command with its metrics, as the tests of what is deployed beside it share it."""

import pytest

from tests.serve.conftest import COMMAND, ServerProcess


@pytest.fixture(scope="session")
def deployed(tmp_path_factory):
    server = ServerProcess(
        [*COMMAND, "serve", "--port", "0", "--metrics-port", "0", "--audit-log", "audit.jsonl"],
        tmp_path_factory.mktemp("deployed"),
    )
    yield server
    server.close()
