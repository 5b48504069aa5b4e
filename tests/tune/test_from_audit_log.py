"""From live traffic back to a policy: a server's audit log, a person's labels, ``cascade tune --from-log``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cascade.policy import load
from cascade.serve.audit import FileSettings
from cascade.serve.auditing import Level
from cascade.serve.security import AuditSettings, Security
from cascade.v1.cascade_service_pb2 import BatchCheckRequest
from cascade.v1.check_pb2 import CheckRequest
from tests.fakes import fake_policy
from tests.serve.calling import stubs
from tests.serve.guarded import Guarded
from tests.tools.conftest import Done, cascade, fakes  # noqa: F401 - fixtures

TEXTS = 80
WORDS = {True: "terrible", False: "calm"}


@pytest.mark.usefixtures("fakes")
def test_an_audit_of_live_traffic_becomes_a_certified_policy(
    cascade: Callable[..., Done],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    """All traffic is audited, so that both stages answer each text; the log has their scores and no text."""
    everything = fake_policy("[route]\naudit_rate = 1.0")
    audit = AuditSettings(FileSettings(tmp_path / "audit.jsonl"), tmp_path / "salt", Level.METADATA)
    server = Guarded(Security(audit=audit), policies=[everything])
    truth = {f"{number}": number % 3 == 0 for number in range(TEXTS)}
    requests = [CheckRequest(request_id=name, text=f"{WORDS[unsafe]} day {name}") for name, unsafe in truth.items()]
    with server.channel() as channel:
        answers = stubs(channel).cascade.BatchCheck(BatchCheckRequest(requests=requests), timeout=60)
    server.stop()
    assert all(item.response.route.escalated for item in answers.items)
    log = (tmp_path / "audit.jsonl").read_text()
    assert not any(f"{word} day" in log for word in WORDS.values())
    records = [json.loads(line) for line in log.splitlines()]
    assert len(records) == TEXTS
    labelled = [record | {"unsafe": truth[record["id"]]} for record in records]
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled))

    wishes = ["--max-escalation", "0.7", "--max-missed-unsafe", "0.5", "--delta", "0.2"]
    (tmp_path / "base.toml").write_text(fake_policy().toml)
    command = ["tune", "labelled.jsonl", "--from-log", "--policy", "base.toml", "--out", "tuned.toml", *wishes]
    done = cascade(*command, "--json")
    assert done.code == 0, done.err
    tuned = load(tmp_path / "tuned.toml")
    assert tuned.certificate is not None
    assert (tuned.certificate.rows, tuned.certificate.tuned_on) == (TEXTS, TEXTS // 2)
    assert done.json()["promises"]["missed_unsafe"]["failures"] == 0
    for unsafe, word in WORDS.items():
        judged = cascade("classify", f"a {word} day", "--policy", "tuned.toml", "--json").json()
        assert (judged["verdict"] == "VERDICT_UNSAFE") == unsafe
