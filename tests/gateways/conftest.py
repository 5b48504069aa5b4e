"""What the tests of Envoy's filters share: a server with fake models that blocks, and one that only tells."""

import pytest

from cascade.gateways.surfaces import Surfaces
from tests.fakes import fake_policy
from tests.serve.guarded import Guarded

STRICT = """
[stage1]
unsafe_threshold = 0.001
[stage2]
unsafe_threshold = 0.001
[route]
low = 0.001
audit_rate = 0.0
[merge]
rule = "max"
segments = "max"
controversial_threshold = 0.001
"""


@pytest.fixture(scope="session")
def blocking():
    """The server, which beside its default policy has "strict", to which nothing is safe."""
    server = Guarded(surfaces=Surfaces(envoy=True), policies=[fake_policy(), fake_policy(STRICT, name="strict")])
    yield server
    server.stop()


@pytest.fixture(scope="session")
def channel(blocking):
    """A channel to it."""
    with blocking.channel() as channel:
        yield channel


@pytest.fixture(scope="session")
def telling():
    """A channel to a server that tells verdicts in headers alone."""
    server = Guarded(surfaces=Surfaces(envoy=True, envoy_headers_only=True))
    with server.channel() as channel:
        yield channel
    server.stop()
