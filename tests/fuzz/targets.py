"""What is fuzzed in process: *input* -> the part that reads it -> an answer, or an error that is the sender's to mend.

A check raises for anything else: an exception that is none of ours, one that a caller would see as INTERNAL or UNKNOWN,
or a promise of the part that does not hold.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import message_factory
from hypothesis import strategies as st

from cascade.content import parts
from cascade.errors import CascadeError, PolicyError
from cascade.evaluate.rows import DataError, read_folder
from cascade.gateways import json_request, openai
from cascade.gateways.extract import read_request
from cascade.limits import Limits
from cascade.policy import parse
from cascade.readings import readings
from cascade.scan.csvfile import Csv
from cascade.scan.jsonl import JsonLines
from cascade.scan.parquet import Parquet
from cascade.scan.records import Fields, Outcome, ScanError, ScanUsageError
from cascade.serve import tokens
from cascade.serve.errors import code_of, to_status
from cascade.serve.wire import Malformed, reader
from cascade.text.canonical import canonical
from cascade.text.views import views
from cascade.v1.cascade_service_pb2 import BatchCheckRequest, CheckStreamRequest
from cascade.v1.check_pb2 import CheckRequest
from tests.fuzz import inputs

LIMITS = Limits()
FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
KINDS = sorted(
    {message_factory.GetMessageClass(method.input_type) for method in inputs.METHODS.values()},
    key=lambda kind: kind.DESCRIPTOR.full_name,
)
READERS = {kind: reader(kind) for kind in KINDS}


@dataclass(frozen=True)
class Target:
    """Something that reads: inputs for it, and the check; ``share`` of 100 inputs go there."""

    inputs: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    share: int


def message(case):
    """Bytes from the network: decoded, validated, and all that is text in them normalised."""
    kind, data = case
    found = READERS[kind](data)
    if isinstance(found, Malformed):
        blamed(found.error)
        found.request_id.encode()
        return
    for request in contents(found):
        try:
            content = parts(request, LIMITS)
        except CascadeError as error:
            blamed(error)
            continue
        for reading in readings(request, content):
            for field, start, end in reading.places(0, len(reading.view.text)):
                assert 0 <= start <= end <= max(len(part.text) for part in content if part.field == field)


def contents(found):
    if isinstance(found, CheckRequest):
        return [found]
    if isinstance(found, BatchCheckRequest):
        return found.requests
    return [found.request] if isinstance(found, CheckStreamRequest) else []


def blamed(error):
    """The error has a code that says whose fault it is, and can be sent."""
    assert code_of(error) not in FAULTS, error
    to_status(error, method="fuzz", request_id="").SerializeToString()


def text(raw):
    """A text's views lead back to it, and its canonical form is canonical."""
    first, *others = views(raw)
    assert first.text == raw
    for view in others:
        view.text.encode()
        assert len(view.offsets) == len(view.text) + 1
        assert view.offsets[-1] == len(raw)
        assert all(before <= after for before, after in zip(view.offsets, view.offsets[1:], strict=False))
    once = canonical(raw)
    assert canonical(once) == once


def policy(toml):
    """A policy is one, with a form that reads back the same, or has problems."""
    try:
        found = parse(toml)
    except PolicyError as error:
        blamed(error)
    else:
        assert parse(found.toml).revision == found.revision


def body(data):
    """A body of HTTP is a request or blamed on a field, for each way in."""
    for read in (
        lambda: json_request.to_message(json_request.parse(data), CheckRequest),
        lambda: openai.read(json_request.parse(data)),
        lambda: read_request(data, {"content-type": "application/json"}),
    ):
        try:
            read()
        except CascadeError as error:
            blamed(error)


def scanned(kind, suffix):
    def check(data):
        """Each row is a record; the file comes out with an outcome a row, or is refused."""
        with _file(f"in{suffix}", data) as path, suppress(ScanError, ScanUsageError):
            source = kind(path, Fields())
            rows = sum(1 for _ in source.records())
            source.write((Outcome(None, {"code": "X", "message": "y"}) for _ in range(rows)), path.with_stem("out"))

    return check


def labelled(data):
    """A labelled set is read or refused by its line."""
    with _file("set.jsonl", data) as path, suppress(DataError):
        read_folder(path.parent)


def token_file(data):
    """A token file is read or refused."""
    with _file("tokens.toml", data) as path, suppress(tokens.TokenFileError):
        tokens.read(path)


@contextmanager
def _file(name: str, data: bytes) -> Iterator[Path]:
    """A file in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="cascade-fuzz") as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        yield path


def one_parquet() -> bytes:
    """A small Parquet file."""
    rows = {"id": ["1", "2"], "text": ["hello", "there"], "response": [None, "x"]}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(rows), sink)
    made: bytes = sink.getvalue().to_pybytes()
    return made


TARGETS = {
    "message": Target(
        st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), inputs.messages(kind))), message, 40
    ),
    "text": Target(inputs.TEXTS, text, 30),
    "policy": Target(inputs.policies(), policy, 10),
    "body": Target(inputs.BODIES, body, 10),
    "jsonl": Target(inputs.JSONL, scanned(JsonLines, ".jsonl"), 2),
    "gzip": Target(inputs.GZIP, scanned(JsonLines, ".jsonl.gz"), 2),
    "csv": Target(inputs.CSV, scanned(Csv, ".csv"), 2),
    "parquet": Target(inputs.ruined(st.just(one_parquet())), scanned(Parquet, ".parquet"), 1),
    "labelled": Target(inputs.JSONL, labelled, 2),
    "tokens": Target(inputs.TOKENS, token_file, 1),
}
assert sum(target.share for target in TARGETS.values()) == 100, "a share is of 100 inputs"
