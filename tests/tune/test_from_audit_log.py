"""From live traffic back to a policy: a server's audit log, a person's labels, ``cascade tune --from-log``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

TEXTS, BATCH = 400, 100
WORDS = {True: "terrible", False: "calm"}
TRUTH = {f"{number}": number % 3 == 0 for number in range(TEXTS)}
WISHES = ["--max-escalation", "0.7", "--max-missed-unsafe", "0.5", "--delta", "0.2"]


def audited(folder: Path, rate: float) -> list[dict[str, Any]]:
    """The audit log of a server that has judged all texts, each of them twice; labelled is what the audit drew."""
    (folder / "salt").write_bytes(bytes(range(32)))  # who is drawn hangs on it
    audit = AuditSettings(FileSettings(folder / "audit.jsonl"), folder / "salt", Level.METADATA)
    server = Guarded(Security(audit=audit), policies=[fake_policy(f"[route]\naudit_rate = {rate}")])
    requests = [CheckRequest(request_id=name, text=f"{WORDS[unsafe]} day {name}") for name, unsafe in TRUTH.items()]
    with server.channel() as channel:
        for start in [*range(0, TEXTS, BATCH)] * 2:
            batch = BatchCheckRequest(requests=requests[start : start + BATCH])
            stubs(channel).cascade.BatchCheck(batch, timeout=60)
    server.stop()
    log = (folder / "audit.jsonl").read_text()
    assert not any(f"{word} day" in log for word in WORDS.values())
    records = [json.loads(line) for line in log.splitlines()]
    assert len(records) == 2 * TEXTS
    rows = [
        record | ({"unsafe": TRUTH[record["id"]]} if record["result"]["route"]["audited"] else {}) for record in records
    ]
    (folder / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "base.toml").write_text(fake_policy().toml)
    return rows


@pytest.mark.usefixtures("fakes")
def test_what_a_random_audit_drew_becomes_a_certified_policy(
    cascade: Callable[..., Done],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    """Every unsafe text was escalated, one harmless text in four: only those that were drawn are like the traffic."""
    rows = audited(tmp_path, rate=0.25)
    drawn = {row["id"] for row in rows if "unsafe" in row}
    both = {row["id"] for row in rows if row["result"]["route"]["escalated"]}
    assert drawn < both
    assert 60 < len(drawn) < 140
    assert sum(map(TRUTH.__getitem__, both)) / len(both) > 0.5 > sum(map(TRUTH.__getitem__, drawn)) / len(drawn)

    command = ["tune", "labelled.jsonl", "--from-log", "--policy", "base.toml", "--out", "tuned.toml", *WISHES]
    done = cascade(*command, "--json")
    assert done.code == 0, done.err
    tuned = load(tmp_path / "tuned.toml")
    assert tuned.certificate is not None
    assert tuned.certificate.rows == len(drawn), "each content once, and only those that were drawn"
    assert done.json()["promises"]["missed_unsafe"]["failures"] == 0
    for unsafe, word in WORDS.items():
        judged = cascade("classify", f"a {word} day", "--policy", "tuned.toml", "--json").json()
        assert (judged["verdict"] == "VERDICT_UNSAFE") == unsafe


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("rate", [0.0, 0.02])
def test_an_audit_that_drew_too_few_says_how_many_it_takes(
    cascade: Callable[..., Done],  # noqa: F811 - the fixture
    tmp_path: Path,
    rate: float,
) -> None:
    rows = audited(tmp_path, rate)
    drawn = len({row["id"] for row in rows if "unsafe" in row})
    done = cascade(
        "tune", "labelled.jsonl", "--from-log", "--policy", "base.toml", "--out", "tuned.toml",
        "--max-escalation", "0.1",
    )  # fmt: skip
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "at least 58 texts" in done.err or "at least 29 texts in the half" in done.err
    assert f"of 800 answers in the log the random audit drew {drawn} different contents" in done.err
    assert not (tmp_path / "tuned.toml").exists()
