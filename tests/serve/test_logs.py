import json
import logging
import os
import subprocess
import sys

import grpc
import pytest

from cascade.observe import logs
from cascade.observe.logs import JsonFormatter, describe
from cascade.v1.check_pb2 import CheckRequest
from tests.serve.calling import fails, stubs
from tests.serve.conftest import FAKE_SERVER, READY, environment


def record(message="hello", exc_info=None, **extra):
    made = logging.getLogger("cascade.test").makeRecord(
        "cascade.test", logging.INFO, __file__, 1, message, (), exc_info, extra=extra
    )
    return json.loads(JsonFormatter().format(made))


def test_a_record_is_one_json_object_with_its_extra_fields():
    line = record(request_id="a\nb", seconds=0.5)
    assert list(line) == ["time", "level", "logger", "message", "request_id", "seconds"]
    assert (line["level"], line["logger"], line["request_id"]) == ("info", "cascade.test", "a\nb")


def test_what_json_does_not_know_is_logged_as_its_string():
    assert record(path=__import__("pathlib").Path("x"))["path"] == "x"


def test_groups_and_suppressed_contexts():
    try:
        try:
            raise KeyError("quoted")
        except KeyError:
            raise ExceptionGroup("quoted", [ValueError("quoted")]) from None
    except ExceptionGroup as error:
        lines = describe(error)
        assert [line for line in lines if line.startswith("builtins.")] == [
            "builtins.ExceptionGroup",
            "builtins.ValueError",
        ]
        assert "quoted" not in json.dumps(record(exc_info=sys.exc_info()))


@pytest.fixture
def pipe():
    """Both ends of a pipe: a descriptor to read from and a file to write to."""
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "w", buffering=1) as writer:
        os.set_blocking(reading, False)
        yield reader, writer


def test_what_a_pipe_has_no_room_for_is_dropped_counted_and_told(pipe):
    reader, writer = pipe
    handler = logs.Handler(writer)
    handler.setFormatter(JsonFormatter())

    def write(numbers):
        for number in numbers:
            handler.handle(logging.makeLogRecord({"msg": f"{number} {'x' * 200}", "levelname": "INFO"}))
        return [json.loads(line) for line in reader.read().splitlines()]

    first = write(range(2000))
    then = write([2000, 2001])
    assert 0 < len(first) < 2000
    assert [line["message"].split()[0] for line in first] == [str(number) for number in range(len(first))]
    assert (then[0]["level"], then[0]["lines"]) == ("warning", 2000 - len(first))
    assert [line["message"].split()[0] for line in then[1:]] == ["2000", "2001"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_whose_log_nobody_reads_answers_and_ends(tmp_path, workers):
    """Each wrong call is a line of the log, and some hundred lines fill a pipe."""
    command = [*FAKE_SERVER, "--alone", "1", "--workers", str(workers)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), **options) as server:
        try:
            port = READY.fullmatch(server.stdout.readline().rstrip("\n"))["port"]
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                check = stubs(channel).cascade.Check
                for _ in range(600):
                    fails(grpc.StatusCode.INVALID_ARGUMENT, check, CheckRequest(request_id="x" * 256))
                assert check(CheckRequest(text="hello"), timeout=60).verdict
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()
