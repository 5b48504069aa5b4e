"""Disks are full: of the audit log while two workers answer, and of temporary files, where quotas are kept."""

import os
import resource
import threading

import grpc
import pytest
from grpc_status import rpc_status

from cascade.errors import CascadeError
from cascade.serve.used import ROW_BYTES, ROWS, Book
from cascade.v1.cascade_service_pb2_grpc import CascadeServiceStub
from cascade.v1.check_pb2 import CheckRequest
from tests.chaos.conftest import ROUNDS
from tests.serve.calling import unpack
from tests.serve.test_reload import wait_until


def reason(error):
    (info,) = (detail for kind, detail in unpack(rpc_status.from_call(error)).items() if kind.__name__ == "ErrorInfo")
    return info.reason


def test_nothing_is_answered_that_the_full_disk_does_not_keep(crew):
    """The supervisor's files may not grow for a while, which is what a full disk is to it, and then they may again."""
    supervisor = crew.server.process.pid
    answered, refused, stop = [], [], threading.Event()

    def call(name):
        number = 0
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.insecure_channel(crew.address, options) as channel:
            while not stop.is_set():
                number += 1
                try:
                    request = CheckRequest(request_id=f"disk-{name}-{number}", text="a terrible thing")
                    answered.append(CascadeServiceStub(channel).Check(request, timeout=60).request_id)
                except grpc.RpcError as error:
                    refused.append(error)

    callers = [threading.Thread(target=call, args=(name,)) for name in range(6)]
    for caller in callers:
        caller.start()
    try:
        _, hard = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
        for round_ in range(1, ROUNDS + 1):
            before = len(answered)
            wait_until(lambda n=before: len(answered) > n + 30)
            resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (crew.audit.stat().st_size + 700, hard))
            wait_until(lambda n=round_: len(refused) > 30 * n)
            resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (hard, hard))
            before = len(answered)
            wait_until(lambda n=before: len(answered) > n + 30)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert {(error.code(), reason(error)) for error in refused} == {(grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")}
    assert set(answered) <= crew.kept()


def test_quotas_have_their_room_from_the_start():
    """A hole in the file that processes share would end whichever first writes to it on a full disk (SIGBUS)."""
    assert os.fstat(Book().fileno()).st_blocks * 512 >= ROWS * ROW_BYTES
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROW_BYTES, hard))
    try:
        with pytest.raises(CascadeError, match="temporary files"):
            Book()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
