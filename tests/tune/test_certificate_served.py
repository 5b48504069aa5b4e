"""A certificate beside other models than its own: the real command, and a server over a real socket, refuse it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cascade.observe.drift import ENOUGH
from cascade.policy import Policy
from cascade.tune.fit import fit
from cascade.tune.wishes import Wish
from cascade.v1.cascade_service_pb2 import BatchCheckRequest
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckRequest
from cascade.v1.policy_service_pb2 import ValidatePolicyRequest
from cascade.v1.policy_service_pb2_grpc import PolicyServiceStub
from tests.serve.guarded import Guarded, metric
from tests.tools.conftest import in_process
from tests.tune.samples import request, scored


@pytest.fixture(scope="module")
def certified() -> Policy:
    found = fit(scored(400, seed=2), request(Wish("escalation", 0.6))).policy
    assert found is not None
    return found


@pytest.mark.timeout(300)  # the embedded models are loaded, on a machine that may do other things
def test_the_command_refuses_it_and_says_what_to_do(certified: Policy, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(certified.toml)
    done = in_process([sys.executable, "-m", "cascade.cli"], "classify", "x", "--policy", "p.toml", folder=tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "certificate.stage1 is m@r, which is not the model that is loaded" in done.err
    assert "tune again, or leave the certificate out" in done.err


def test_a_server_says_which_model_a_certificate_is_not_for(certified: Policy) -> None:
    server = Guarded()
    with server.channel() as channel:
        policies = PolicyServiceStub(channel)
        refused = policies.ValidatePolicy(ValidatePolicyRequest(toml=certified.toml), timeout=60)
        plain = certified.model_copy(update={"certificate": None})
        no_models = plain.model_copy(update={"models": type(plain.models)()})
        taken = policies.ValidatePolicy(ValidatePolicyRequest(toml=no_models.toml), timeout=60)
    server.stop()
    assert (refused.valid, refused.revision) == (False, "")
    for stage in ("stage1", "stage2"):
        told = f"certificate.{stage} is m@r, which is not the model that is loaded: tune again"
        assert any(problem.startswith(told) for problem in refused.problems)
    assert (taken.valid, taken.revision, list(taken.problems)) == (True, no_models.revision, [])


def test_a_server_tells_how_far_its_traffic_is_from_the_rows_that_the_policy_was_tuned_on(certified: Policy) -> None:
    server = Guarded(policies=[certified])
    requests = [CheckRequest(text="a calm day")] * (ENOUGH // 4)
    with server.channel() as channel:
        for _ in range(4):
            CascadeServiceStub(channel).BatchCheck(BatchCheckRequest(requests=requests), timeout=60)
    series = ("cascade_drift_score_psi", "cascade_drift_escalation_ratio", "cascade_reference_escalation_ratio")
    psi, escalated, expected = (metric(server.metrics, name, policy="tuned") for name in series)
    server.stop()
    assert psi > 1
    assert escalated == 0
    assert certified.reference is not None
    assert expected == certified.reference.escalated
