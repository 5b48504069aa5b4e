"""The sample configurations are what Envoy's own message types say, and let nothing pass without a verdict."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from google.protobuf.json_format import ParseDict, ParseError

from cascade.gateways.ext_proc_half import ASK_AFTER_S, MORE_S
from tests.gateways.envoy_filter import BUFFERED, DUPLEX, uncommented
from tests.repo.modules import ROOT

SAMPLES = ROOT / "deploy/envoy"
XDS = Path(sys.prefix) / "xds"  # apart, since that package overwrites files of others (cascade.gateways.envoy_messages)

if not XDS.is_dir():
    pytest.skip(f"xds-protos is not in {XDS}: make test puts it there", allow_module_level=True)
sys.path.append(str(XDS))
FILTERS = "envoy.extensions.filters"
MANAGER = f"{FILTERS}.network.http_connection_manager.v3.http_connection_manager"
for name in (  # types that the configurations name
    "envoy.extensions.access_loggers.stream.v3.stream",
    f"{FILTERS}.http.router.v3.router",
    "envoy.extensions.upstreams.http.v3.http_protocol_options",
):
    import_module(f"{name}_pb2")
Bootstrap = import_module("envoy.config.bootstrap.v3.bootstrap_pb2").Bootstrap
authz, proc = (import_module(f"{FILTERS}.http.{name}.v3.{name}_pb2") for name in ("ext_authz", "ext_proc"))
ExtAuthz, ExtAuthzPerRoute = authz.ExtAuthz, authz.ExtAuthzPerRoute
ExternalProcessor, ExtProcPerRoute = proc.ExternalProcessor, proc.ExtProcPerRoute
HttpConnectionManager = import_module(f"{MANAGER}_pb2").HttpConnectionManager


def manager_of(text):
    bootstrap = ParseDict(yaml.safe_load(text), Bootstrap())
    manager = HttpConnectionManager()
    (chain,) = bootstrap.static_resources.listeners[0].filter_chains
    assert chain.filters[0].typed_config.Unpack(manager)
    return manager


def filter_of(name, kind):
    manager, found = manager_of((SAMPLES / name).read_text()), kind()
    assert manager.http_filters[0].typed_config.Unpack(found)
    assert manager.http_filters[1].name == "envoy.filters.http.router"
    return found


def test_every_sample_is_tested():
    assert {path.name for path in SAMPLES.glob("*.yaml")} == {"ext_proc.yaml", "ext_authz.yaml"}


def test_ext_proc():
    found = filter_of("ext_proc.yaml", ExternalProcessor)
    assert not found.failure_mode_allow
    mode = found.processing_mode
    assert (mode.request_body_mode, mode.response_body_mode) == (BUFFERED, DUPLEX)
    assert mode.response_trailer_mode == mode.SEND
    assert found.message_timeout.ToMilliseconds() >= 2000 * ASK_AFTER_S
    assert found.max_message_timeout.ToMilliseconds() >= 1000 * MORE_S
    assert list(found.metadata_options.receiving_namespaces.untyped) == ["cascade"]


def test_ext_authz():
    found = filter_of("ext_authz.yaml", ExtAuthz)
    assert not found.failure_mode_allow
    assert found.with_request_body.max_request_bytes > 1_000_000
    assert not found.with_request_body.allow_partial_message
    assert found.with_request_body.pack_as_bytes


def test_the_routes_in_comments_choose_a_policy_and_a_mode():
    chosen = {"x-cascade-policy": "strict", "x-cascade-mode": "headers"}
    for name, kind in (("ext_proc", ExtProcPerRoute), ("ext_authz", ExtAuthzPerRoute)):
        manager, found = manager_of(uncommented((SAMPLES / f"{name}.yaml").read_text())), kind()
        route, rest = manager.route_config.virtual_hosts[0].routes
        assert (route.match.prefix, rest.match.prefix) == ("/trial/", "/")
        assert route.typed_per_filter_config[f"envoy.filters.http.{name}"].Unpack(found)
        assert manager.http_filters[0].name == f"envoy.filters.http.{name}"
        if name == "ext_proc":
            assert {one.key: one.value for one in found.overrides.grpc_initial_metadata} == chosen
        else:
            assert found.check_settings.context_extensions == chosen


def test_a_key_that_is_none_is_found():
    sample = (SAMPLES / "ext_proc.yaml").read_text().replace("failure_mode_allow", "failure_mode_forbid")
    with pytest.raises(ParseError):
        ParseDict(yaml.safe_load(sample), Bootstrap())
