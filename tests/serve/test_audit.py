"""The audit log: what is in it, what is not, and that it is there before the answer is."""

import asyncio
import errno
import json
import os
import resource
import signal
import threading
from pathlib import Path
from unittest.mock import Mock

import grpc
import pytest

from cascade.errors import AuditError
from cascade.serve import audit, auditing
from cascade.serve.audit import AuditFile, AuditFileError, FileSettings, Fsync
from cascade.serve.auditing import Level, OnError
from cascade.serve.security import AuditSettings, Security
from cascade.tune.scores import read_log
from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest, ModerateStreamRequest
from cascade.v1.check_pb2 import ROUTE_REASON_AUDITED, CheckRequest, Exchange
from tests.fakes import fake_policy
from tests.serve.calling import fails, stubs
from tests.serve.conftest import COMMAND, ServerProcess, whole_lines
from tests.serve.guarded import Guarded, metric
from tests.serve.test_tokens import wait_for

CODE = grpc.StatusCode
KEYS = ["time", "method", "caller", "peer", "code", "reason", "id", "content"]


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(settings, *lines):
    """Writes lines at the same time, and returns what became of each."""

    async def all_of_them():
        log = AuditFile(settings)
        try:
            return await asyncio.gather(*(log.write(line.encode()) for line in lines), return_exceptions=True)
        finally:
            await asyncio.to_thread(log.close)

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("fsync", Fsync)
def test_what_was_taken_is_in_the_file_in_order(tmp_path, fsync):
    path = tmp_path / "audit.jsonl"
    lines = [str(number) for number in range(3000)]
    assert write(FileSettings(path, fsync=fsync), *lines) == [None] * 3000
    write(FileSettings(path, fsync=fsync), "more")
    assert path.read_text().split("\n") == [*lines, "more", ""]
    assert path.stat().st_mode & 0o077 == 0, "the file is its owner's alone"


def test_a_record_is_taken_only_when_the_disk_has_it(tmp_path, monkeypatch):
    """Whether a power cut spares a record cannot be tried here: whether fsync came before the answer can."""
    synced, order = os.fsync, []
    monkeypatch.setattr(audit.os, "fsync", lambda file: (synced(file), order.append("fsync"))[0])
    settings = FileSettings(tmp_path / "audit.jsonl", fsync=Fsync.ALWAYS)

    async def one_by_one():
        log = AuditFile(settings)
        order.clear()
        for _ in range(3):
            await log.write(b"{}")
            order.append("answer")
        await asyncio.to_thread(log.close)

    asyncio.run(one_by_one())
    assert order == ["fsync", "answer"] * 3


@pytest.mark.parametrize("keep", [0, 2])
def test_full_files_are_put_aside_and_nothing_is_lost(tmp_path, keep):
    path = tmp_path / "audit.jsonl"
    settings = FileSettings(path, max_bytes=100, keep=keep)
    lines = [f"{number:039}" for number in range(10)]
    for line in lines:
        assert write(settings, line) == [None]
    full = sorted(tmp_path.glob("audit.jsonl.0*"))
    assert [file.name for file in full] == [f"audit.jsonl.{number:06}" for number in range(1, 5)][-keep or -4 :]
    assert all(file.stat().st_size <= 100 for file in [*full, path])
    kept = [line for file in [*full, path] for line in file.read_text().splitlines()]
    assert kept == lines[-len(kept) :]
    assert len(kept) == (10 if keep == 0 else 6)


def test_a_file_is_put_aside_later_where_its_folder_cannot_be_listed_and_none_is_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "audit.jsonl"
    lines = [f"{number:039}" for number in range(5)]
    settings = FileSettings(path, max_bytes=40)
    assert write(settings, lines[0]) == [None]
    for line in lines[1:]:  # each needs a new file
        with monkeypatch.context() as patched:
            patched.setattr(Path, "iterdir", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
            (error,) = write(settings, line)
            assert isinstance(error, AuditError)
        assert write(settings, line) == [None]
    files = [*sorted(tmp_path.glob("audit.jsonl.0*")), path]
    assert [file.read_text() for file in files] == [f"{line}\n" for line in lines]


@pytest.mark.parametrize("torn", ['{"half a li', "x" * 200_000, '{"whole": 1}\n{"ha'])
def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path, torn, caplog):
    path = tmp_path / "audit.jsonl"
    path.write_text('{"n": 1}\n' + torn)
    write(FileSettings(path), '{"n": 2}')
    whole = torn.splitlines()[:-1]
    assert path.read_text() == "\n".join(['{"n": 1}', *whole, '{"n": 2}', ""])
    assert "half a line" in caplog.text


def test_two_servers_do_not_share_a_file(tmp_path):
    settings = FileSettings(tmp_path / "audit.jsonl")
    first = AuditFile(settings)
    with pytest.raises(AuditFileError, match="another server"):
        AuditFile(settings)
    first.close()
    AuditFile(settings).close()


def test_a_file_that_cannot_be_opened_is_told_at_the_start(tmp_path):
    with pytest.raises(AuditFileError, match="No such file"):
        AuditFile(FileSettings(tmp_path / "missing" / "audit.jsonl"))


def test_a_full_disk_is_told_to_who_waits(tmp_path):
    path = tmp_path / "audit.jsonl"
    path.symlink_to("/dev/full")
    assert [type(outcome) for outcome in write(FileSettings(path), "a", "b")] == [AuditError] * 2


@pytest.mark.parametrize("on_error", OnError)
def test_a_disk_that_hangs_holds_no_call_for_ever(tmp_path, monkeypatch, on_error):
    monkeypatch.setattr(auditing, "WRITE_S", 0.2)
    path = tmp_path / "audit.jsonl"
    server = Guarded(Security(audit=AuditSettings(FileSettings(path), tmp_path / "salt", on_error=on_error)))
    written, goes_on = AuditFile._write, threading.Event()

    def hang(self, entries):
        goes_on.wait()
        written(self, entries)

    try:
        monkeypatch.setattr(AuditFile, "_write", hang)
        with server.channel() as channel:
            check = stubs(channel).cascade.Check
            if on_error is OnError.REFUSE:
                assert fails(CODE.UNAVAILABLE, check, CheckRequest(text="hello")).info.reason == "AUDIT_UNAVAILABLE"
            else:
                assert check(CheckRequest(text="hello"), timeout=60).verdict
            goes_on.set()
            wait_for(lambda: kept_ok(check, path))
    finally:
        goes_on.set()
        server.stop()


def kept_ok(check, path):
    """Whether a call is answered, and its record is there."""
    try:
        request_id = check(CheckRequest(text="hello"), timeout=60).request_id
    except grpc.RpcError:
        return False
    return request_id in [record["id"] for record in records(path)]


@pytest.mark.parametrize("on_error", OnError)
def test_on_a_full_disk_calls_are_refused_or_records_counted_as_dropped(tmp_path, on_error):
    path = tmp_path / "audit.jsonl"
    path.symlink_to("/dev/full")
    server = Guarded(Security(audit=AuditSettings(FileSettings(path), tmp_path / "salt", on_error=on_error)))
    with server.channel() as channel:
        call = stubs(channel).cascade
        batch = BatchCheckRequest(requests=[CheckRequest(text="hello")] * 2)
        if on_error is OnError.REFUSE:
            refused = fails(CODE.UNAVAILABLE, call.Check, CheckRequest(text="hello"))
            assert refused.info.reason == "AUDIT_UNAVAILABLE"
            assert refused.retry is not None
            items = call.BatchCheck(batch, timeout=60).items
            assert {item.error.code for item in items} == {CODE.UNAVAILABLE.value[0]}
            # The refusal of Check is to be recorded, too, and cannot be either.
            assert metric(server.metrics, "cascade_audit_records_total", outcome="refused") >= 4
        else:
            assert call.Check(CheckRequest(text="hello"), timeout=60).verdict
            assert all(item.response.verdict for item in call.BatchCheck(batch, timeout=60).items)
            assert metric(server.metrics, "cascade_audit_records_total", outcome="dropped") == 3
        assert metric(server.metrics, "cascade_audit_records_total", outcome="written") == 0
    server.stop()


@pytest.fixture(params=Level)
def kept(request, tmp_path):
    """A server of a level, its audit log, and what calls it."""
    settings = AuditSettings(FileSettings(tmp_path / "audit.jsonl"), tmp_path / "salt", level=request.param)
    audited = fake_policy("[route]\naudit_rate = 1.0", name="audited")
    server = Guarded(Security(audit=settings), policies=[fake_policy(), audited])
    with server.channel() as channel:
        yield request.param, settings, stubs(channel)
    server.stop()


def test_records_of_every_kind_of_call(kept):
    level, settings, call = kept
    text = "terrible secret"
    exchange = CheckRequest(request_id="b", exchange=Exchange(prompt="why", response=text))
    call.cascade.Check(CheckRequest(request_id="a", text=text), timeout=60)
    call.cascade.BatchCheck(BatchCheckRequest(requests=[exchange, CheckRequest(request_id="c")]), timeout=60)
    list(call.cascade.CheckStream(iter([CheckStreamRequest(request=CheckRequest(text=text))]), timeout=60))
    fails(CODE.NOT_FOUND, call.cascade.Check, CheckRequest(request_id="d", text=text, policy="none such"))
    found = records(settings.file.path)
    outline = [(record["method"].partition("/")[2], record["id"], record["code"]) for record in found]
    made_up = outline[3][1]
    assert outline[0] == ("Check", "a", "OK")
    assert sorted(outline[1:3]) == [("BatchCheck", "b", "OK"), ("BatchCheck", "c", "INVALID_ARGUMENT")]
    assert len(made_up) == 32
    assert outline[3:] == [("CheckStream", made_up, "OK"), ("Check", "d", "NOT_FOUND")]
    assert [record["reason"] for record in found] == [
        "INVALID_REQUEST" if record["id"] == "c" else "NOT_FOUND" if record["id"] == "d" else "" for record in found
    ]
    for record in found:
        assert list(record)[: len(KEYS)] == KEYS
        assert record["caller"] == record["peer"] == "127.0.0.1"
        assert ("result" in record) == (record["code"] == "OK")
        assert ("request" in record) == (level is Level.FULL)
    assert found[0]["result"]["verdict"] == "VERDICT_UNSAFE"
    assert (level is Level.FULL) == (text in settings.file.path.read_text())
    (content,) = found[0]["content"]
    assert (content["field"], content["bytes"]) == ("text", len(text))
    fields = {
        part["field"]: part["hash"] for part in next(record for record in found if record["id"] == "b")["content"]
    }
    assert fields["exchange.response"] == content["hash"] != fields["exchange.prompt"], "equal texts can be told"


def test_a_generation_is_recorded_piece_by_piece(kept):
    level, settings, call = kept
    pieces = ["Once upon ", "a time. ", "There was a lamp."]
    events = [ModerateStreamRequest(start={"request_id": "g", "prompt": "tell"})]
    events += [ModerateStreamRequest(delta=piece) for piece in pieces] + [ModerateStreamRequest(end={})]
    states = list(call.cascade.ModerateStream(iter(events), timeout=60))
    found = records(settings.file.path)
    assert [(record["id"], record["released_upto"], record["final"]) for record in found] == [
        ("g", state.released_upto, state.final) for state in states
    ]
    sizes = [[part["bytes"] for part in record["content"]] for record in found]
    assert [sum(size) for size in zip(*sizes, strict=True)] == [len("tell"), len("".join(pieces))]
    if level is Level.FULL:
        assert "".join(record["request"]["exchange"]["response"] for record in found) == "".join(pieces)


def test_hashes_of_another_salt_are_others_and_say_so(tmp_path):
    def hash_of(text, salt):
        path = tmp_path / f"{salt}.jsonl"
        server = Guarded(Security(audit=AuditSettings(FileSettings(path), tmp_path / salt)))
        with server.channel() as channel:
            stubs(channel).cascade.Check(CheckRequest(text=text), timeout=60)
        server.stop()
        (content,) = records(path)[0]["content"]
        return content["hash"], content["salt"]

    one, again, other = hash_of("hello", "one"), hash_of("hello", "one"), hash_of("hello", "other")
    assert (tmp_path / "one").stat().st_mode & 0o077 == 0
    assert one == again
    assert one[0] != other[0]
    assert one[1] != other[1]
    (tmp_path / "short").write_bytes(b"too short")
    with pytest.raises(AuditFileError, match="16 to 64 bytes"):
        Guarded(Security(audit=AuditSettings(FileSettings(tmp_path / "x.jsonl"), tmp_path / "short")))


def test_draws_stay_while_the_salt_stays_and_without_one_are_a_secret_of_the_server(tmp_path):
    def key(name):
        return Security(audit=AuditSettings(FileSettings(tmp_path / "log"), tmp_path / name)).audit_key()

    assert key("one") == key("one")
    assert key("one") != key("other")
    assert Security().audit_key() != Security().audit_key()
    (tmp_path / "short").write_bytes(b"too short")
    with pytest.raises(AuditFileError, match="16 to 64 bytes"):
        key("short")


def test_a_server_that_keeps_texts_says_so_loudly(kept, caplog):
    level, settings, _ = kept
    other = AuditSettings(FileSettings(settings.file.path.with_name("other.jsonl")), settings.salt, level)
    Security(audit=other).open_audit_log().close()
    assert ("keeps every text" in caplog.text) == (level is Level.FULL)


def test_tune_reads_what_the_audit_log_writes(kept, tmp_path):
    """A person adds the label; the rest is as the server wrote it."""
    _, settings, call = kept
    answer = call.cascade.Check(CheckRequest(request_id="t", text="unsure hate", policy="audited"), timeout=60)
    assert answer.route.reason != ROUTE_REASON_AUDITED, "it is drawn, but not for want of another reason"
    assert [stage.name for stage in answer.stages] == ["stage1", "stage2"]
    (record,) = records(settings.file.path)
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text(json.dumps(record | {"unsafe": True}))
    models = {stage.name: f"{stage.model}@{stage.revision}" for stage in answer.stages}
    (row,) = read_log(labelled, models)
    assert (row.id, row.unsafe) == ("t", True)
    assert [row.stage1, row.stage2] == [stage.calibrated_probability for stage in answer.stages]
    assert len(row.hazards) == 14


def test_a_full_disk_and_a_kill_lose_nothing_that_was_answered(tmp_path):
    path = tmp_path / "audit.jsonl"
    options = ["--audit-log", str(path), "--audit-level", "full", "--audit-fsync", "always"]
    server = ServerProcess([*COMMAND, "serve", "--port", "0", "--stage2", "none", *options], tmp_path, seconds=300)
    try:
        fill_up(server, path)
        answered = kill(server, [stubs(server.channel)])
    finally:
        server.channel.close()
        server.kill()
    assert "keeps every text" in server.log.read_text()
    kept = has_all(path, answered)
    write(FileSettings(path), '{"id": "next"}')  # cuts off what the killed process had not written whole
    assert [record["id"] for record in records(path)] == [*(record["id"] for record in kept), "next"]


@pytest.mark.parametrize(("workers", "fsync"), [(1, "interval"), (1, "never"), (2, "always"), (2, "never")])
def test_a_kill_loses_nothing_that_was_answered_whoever_writes_and_whenever_the_disk_has_it(
    fake_server, everywhere, tmp_path, workers, fsync
):
    """With two workers it is their supervisor that writes, and that is killed."""
    path = tmp_path / "audit.jsonl"
    server = fake_server(workers=workers, audit=path, level="full", fsync=fsync)
    answered = kill(server, everywhere(server))
    server.kill()
    has_all(path, answered)


def has_all(path, answered):
    """Whether a dead server's file has every answer with its text; returns its whole records."""
    kept = whole_lines(path)
    texts = {record["id"]: record["request"].get("text") for record in kept}
    assert len(answered) > 60
    for request_id, text in answered:
        assert texts[request_id] == text
    return kept


def fill_up(server, path):
    """The file may not grow, as on a full disk, and then it may again."""
    call = stubs(server.channel).cascade
    call.Check(CheckRequest(text="hello"), timeout=100)
    before = path.read_bytes()
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (len(before) + 50, hard))
    try:
        refused = fails(CODE.UNAVAILABLE, call.Check, CheckRequest(text="hello"))
        assert refused.info.reason == "AUDIT_UNAVAILABLE"
        assert path.read_bytes() == before, "half a record is taken back"
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    call.Check(CheckRequest(request_id="after", text="hello"), timeout=100)
    assert path.read_bytes().startswith(before)
    assert [record["id"] for record in records(path)][-1] == "after"


def kill(server, calls):
    """SIGKILL while many calls are under way; returns id and text of those that were answered."""
    answered, callers = [], []

    def ask(number_of_caller):
        name, number = f"caller{number_of_caller}", 0
        call = calls[number_of_caller % len(calls)].cascade
        while True:
            text, number = f"{number} apples and a pear for {name}", number + 1
            try:
                answer = call.Check(CheckRequest(request_id=f"{name}-{number}", text=text), timeout=100)
            except grpc.RpcError:
                return
            answered.append((answer.request_id, text))

    for name in range(8):
        callers.append(threading.Thread(target=ask, args=(name,)))
        callers[-1].start()
    wait_for(lambda: len(answered) > 60, seconds=100)
    server.process.send_signal(signal.SIGKILL)
    for caller in callers:
        caller.join()
    return answered
