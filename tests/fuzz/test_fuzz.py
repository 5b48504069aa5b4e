"""The short form of ``make fuzz``: some inputs for each target, some against a server; and that it would tell."""

import json
import subprocess

import pytest
from hypothesis import strategies as st

from tests.fuzz import run
from tests.fuzz.engine import fuzz
from tests.fuzz.live import fuzz_channel, fuzz_server
from tests.fuzz.targets import TARGETS, Target, one_parquet
from tests.serve.conftest import FAKE_SERVER
from tests.serve.guarded import Guarded


@pytest.mark.parametrize("name", TARGETS)
def test_what_reads_is_at_nobodys_mercy(name):
    target = TARGETS[name]
    assert fuzz(target.check, target.inputs, 40, 1) > 15


def test_a_server_is_at_nobodys_mercy():
    codes, failures = fuzz_server(160, 1, FAKE_SERVER)
    assert failures == []
    assert codes["OK"] > 10
    assert codes["INVALID_ARGUMENT"] > 10


FOUND = {
    "policy-digits": ("policy", f"schema = {'9' * 5000}"),
    "policy-nested": ("policy", "schema = " + "[" * 3000),
    "tokens-digits": ("tokens", b"[a]\ndaily = " + b"9" * 5000),
    "tokens-nested": ("tokens", b"a = " + b"[" * 3000),
    "labelled-nested": ("labelled", b"[" * 3000),
    "parquet-shifted": ("parquet", b"\0" + one_parquet()),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_stays_mended(name):
    target, data = FOUND[name]
    TARGETS[target].check(data)


def test_a_server_with_a_fault_is_found_out(monkeypatch):
    def broken(self, request, **options):
        raise ValueError("a bug")

    server = Guarded()
    monkeypatch.setattr(type(server.pipeline), "check", broken)
    with server.channel() as channel:
        _, failures = fuzz_channel(channel, 16, 0)
    server.stop()
    assert "INTERNAL" in failures[0] or "has code 13" in failures[0]


def test_a_reader_that_raises_or_hangs_is_found_out(monkeypatch, capsys):
    def busy(value):
        while True:
            pass

    def wrong(value):
        raise KeyError("a bug")

    monkeypatch.setattr("tests.fuzz.engine.HANG_S", 0.2)
    for name, check in (("text", busy), ("policy", wrong)):
        monkeypatch.setitem(TARGETS, name, Target(st.just("x"), check, 1))
    _, _, _, hung = run.chunk("text", 10, 0)
    assert "HangError" in hung
    _, _, _, raised = run.chunk("policy", 10, 0)
    assert "KeyError" in raised
    monkeypatch.setattr(run, "in_process", lambda *_: ({"text": 3}, [hung]))
    assert run.main(["--only", "text"]) == 1
    assert json.loads(capsys.readouterr().out)["failures"] == 1


def test_what_libfuzzer_finds_is_told(monkeypatch, tmp_path):
    def guided(command, **options):
        hangs = command[3] == "text"
        said = "SUMMARY: libFuzzer: timeout" if hangs else "INFO: seed 1\nDone 12 runs in 1 second(s)\n"
        return subprocess.CompletedProcess(command, 70 if hangs else 0, stderr=said)

    monkeypatch.setattr(run, "FOUND", tmp_path / "found")
    monkeypatch.setattr(run.subprocess, "run", guided)
    done, failures = run.with_atheris(1)
    assert done == dict.fromkeys(TARGETS, 12) | {"text": 0}
    assert failures == ["text\nSUMMARY: libFuzzer: timeout"]
    assert run.with_atheris(1, "policy") == ({"policy": 12}, [])


def test_the_plan_has_every_input_once():
    planned = list(run.plan(1_000_000, 7))
    assert sum(count for _, count, _ in planned) == 1_000_000
    assert len({number for *_, number in planned}) == len(planned)
    assert {name for name, *_ in planned} == set(TARGETS)
