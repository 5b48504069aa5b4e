import json
import logging

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from cascade import errors
from cascade.observe.logs import JsonFormatter
from cascade.serve.errors import CODES, abort, name_of, to_status

ERRORS = [
    (errors.InvalidRequestError("text is empty", "text"), "INVALID_ARGUMENT", {ErrorInfo, BadRequest}),
    (errors.InvalidRequestError("no message", ""), "INVALID_ARGUMENT", {ErrorInfo}),
    (errors.PolicyError(["one", "two"]), "INVALID_ARGUMENT", {ErrorInfo, BadRequest}),
    (errors.LimitExceededError("bytes of text", 7), "RESOURCE_EXHAUSTED", {ErrorInfo}),
    (errors.OverloadedError("full", 1.5), "RESOURCE_EXHAUSTED", {ErrorInfo, RetryInfo}),
    (errors.DeadlineError("late"), "DEADLINE_EXCEEDED", {ErrorInfo}),
    (errors.StreamIdleError("nothing came"), "DEADLINE_EXCEEDED", {ErrorInfo}),
    (errors.UnauthenticatedError("no token"), "UNAUTHENTICATED", {ErrorInfo}),
    (errors.PermissionDeniedError("not yours", "policy"), "PERMISSION_DENIED", {ErrorInfo}),
    (errors.AuditError("full"), "UNAVAILABLE", {ErrorInfo, RetryInfo}),
    (errors.NotFoundError("no such policy"), "NOT_FOUND", {ErrorInfo}),
    (errors.UnavailableError("stopping"), "UNAVAILABLE", {ErrorInfo, RetryInfo}),
    (errors.UnsupportedError("later"), "UNIMPLEMENTED", {ErrorInfo}),
    (errors.StageError("failed"), "INTERNAL", {ErrorInfo}),
    (errors.ScoreDriftError("drifted"), "INTERNAL", {ErrorInfo}),
    (ValueError("secret text"), "INTERNAL", {ErrorInfo}),
]


def details(status):
    found = {}
    for packed in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                found[kind] = kind.FromString(packed.value)
    return found


@pytest.mark.parametrize(("error", "code", "kinds"), ERRORS, ids=lambda value: type(value).__name__)
def test_every_error_has_a_code_and_its_details(error, code, kinds):
    status = to_status(error, method="m", request_id="r")
    assert name_of(status.code) == code
    found = details(status)
    assert found.keys() == kinds
    assert found[ErrorInfo].domain == "cascade.v1"
    assert found[ErrorInfo].reason == getattr(error, "reason", "INTERNAL")


def test_every_class_of_the_hierarchy_is_mapped():
    classes = [getattr(errors, name) for name in errors.__all__]
    assert all(any(kind in CODES for kind in error.__mro__) for error in classes)
    reasons = [error.reason for error in classes]
    assert len(set(reasons)) == len(reasons)


def test_details_say_field_limit_problems_and_delay():
    found = details(to_status(errors.InvalidRequestError("text is empty", "text"), method="m", request_id=""))
    assert [(v.field, v.description) for v in found[BadRequest].field_violations] == [("text", "text is empty")]
    found = details(to_status(errors.LimitExceededError("bytes of text", 7), method="m", request_id=""))
    assert found[ErrorInfo].metadata == {"what": "bytes of text", "limit": "7"}
    found = details(to_status(errors.PolicyError(["one", "two"]), method="m", request_id=""))
    assert [v.description for v in found[BadRequest].field_violations] == ["one", "two"]
    found = details(to_status(errors.OverloadedError("full", 1.25), method="m", request_id=""))
    assert found[RetryInfo].retry_delay.ToMilliseconds() == 1300, "two digits, and never too short"
    found = details(to_status(errors.RateLimitedError(86_350.5), method="m", request_id=""))
    assert found[RetryInfo].retry_delay.ToSeconds() == 86_400, "to the minute: the next day is no later than that"


def test_an_unforeseen_error_is_an_incident_that_quotes_nothing(caplog):
    secret = "somebody's text"
    try:
        try:
            int(secret)
        except ValueError as error:
            raise RuntimeError(secret) from error
    except RuntimeError as error:
        with caplog.at_level(logging.INFO):
            status = to_status(error, method="m", request_id="r-1")
    incident = details(status)[ErrorInfo].metadata["incident"]
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert incident in status.message
    assert secret not in status.message
    line = JsonFormatter().format(caplog.records[0])
    assert secret not in line
    logged = json.loads(line)
    assert (logged["incident"], logged["request_id"], logged["level"]) == (incident, "r-1", "error")
    assert logged["traceback"][0] == "builtins.ValueError"
    assert any("test_errors.py" in frame for frame in logged["traceback"])


class Aborted(Exception):
    pass


class Context:
    """A call whose caller waits for so many seconds more."""

    def __init__(self, left):
        self._left = left

    def time_remaining(self):
        return self._left

    async def abort(self, code, message, trailing):
        self.trailing = dict(trailing)
        raise Aborted


@pytest.mark.parametrize(
    ("error", "left", "pushback"),
    [
        (errors.OverloadedError("full", 1.5), 2.0, "1500"),
        (errors.OverloadedError("full", 1.5), None, "1500"),
        (errors.OverloadedError("full", 1.5), 1.0, "-1"),
        (errors.LimitExceededError("bytes of text", 7), 2.0, "-1"),
        (errors.UnavailableError("stopping"), 2.0, None),
    ],
)
async def test_who_repeats_by_itself_is_told_when_or_never(error, left, pushback):
    context = Context(left)
    with pytest.raises(Aborted):
        await abort(context, to_status(error, method="m", request_id=""))
    assert context.trailing.get("grpc-retry-pushback-ms") == pushback
