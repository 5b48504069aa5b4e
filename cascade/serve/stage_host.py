"""Keeps one stage running in a process of its own: start -> ready -> *died* -> wait -> start again.

While the process is away its stage fails at once, so that the policy's ``on_error`` answers; nothing waits for it. Each
start in a row that fails, or that soon ends, doubles the wait before the next one.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cascade.errors import CascadeError, DependencyError, ModelError, ScoreDriftError, StageError
from stages.remote.client import RemoteStage
from stages.remote.described import batch_tokens_of

LOOK_S = 0.1
LOAD_S = 600.0  # a large model from a slow disk
STOP_S = 10.0
BACKOFF_S = (0.5, 30.0)  # the first wait before a new start, and the longest
STABLE_S = 60.0  # a process that lived as long has shown that it can
ERRORS = {kind.reason: kind for kind in (DependencyError, ModelError, ScoreDriftError, StageError)}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HostedStage:
    """What runs in the process.

    Attributes:
        spec: an embedded name, a model folder or a hub id.
        threads: CPU threads of torch; batches at a time of the other runtimes, each on one thread.
        stage: the part that it plays.
        device: "cpu", "cuda" or "cuda:N".
        dtype: "float32" or "bfloat16"; None for what the device does best.
        adapters: adapter folders by name.
        memory_mb: the most memory of the GPU; None for all.
        log_level: the least that it logs.
        runtime: "torch", "onnxruntime" or "openvino".
        allow_score_drift: see :func:`stages.registry.load_stage`; torch has a bound of its own.
    """

    spec: str
    threads: int
    stage: str = "stage2"
    device: str = "cpu"
    dtype: str | None = None
    adapters: Mapping[str, Path] = field(default_factory=dict)
    memory_mb: int | None = None
    log_level: str = "info"
    runtime: str = "torch"
    allow_score_drift: bool = False

    def command(self, address: str) -> list[str]:
        """What starts the process."""
        options = {
            "--stage": self.stage,
            "--spec": self.spec,
            "--listen": address,
            "--device": self.device,
            "--threads": str(self.threads),
            "--batch-tokens": str(batch_tokens_of(self.device)),
            "--log-level": self.log_level,
            "--runtime": self.runtime,
        }
        if self.dtype is not None:
            options["--dtype"] = self.dtype
        if self.memory_mb is not None:
            options["--memory-mb"] = str(self.memory_mb)
        pairs = [word for pair in options.items() for word in pair]
        adapters = [f"--adapter={name}={path}" for name, path in self.adapters.items()]
        flags = ["--with-parent", *(["--allow-score-drift"] if self.allow_score_drift else [])]
        return [sys.executable, "-m", "cascade.serve.stage_process", *flags, *pairs, *adapters]


class StageHost:
    """Starts the process of a hosted stage, watches it, and starts it again when it ends.

    ``on_change`` is called with True and False, on a thread of the host's, when the stage comes back and goes away.
    ``address`` is where it serves, another one after each start.
    """

    def __init__(self, hosted: HostedStage) -> None:
        self.hosted = hosted
        self.on_change: Callable[[bool], None] = lambda serving: None
        self._folder = tempfile.TemporaryDirectory(prefix="cascade-")  # only its owner can enter
        self.address = ""
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._stage: RemoteStage | None = None
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name=f"cascade-{hosted.stage}-host", daemon=True)

    @property
    def pid(self) -> int | None:
        """Of the process that runs now, if one does."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def open(self) -> RemoteStage:
        """Starts the process and returns its stage, warmed up. Blocks until then.

        Raises:
            CascadeError: as the process told it.
        """
        self.address = self._start()
        self._stage = RemoteStage(self.address, self.hosted.stage)
        self._watcher.start()
        return self._stage

    def restart(self) -> None:
        """Has the process ended and started again: for other processes, which saw it hang."""
        if self._stage is not None:
            self._stage.hangs = True

    def stop(self) -> None:
        """Ends the process; it is killed if it does not go."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join(STOP_S)
        self._end()
        if self._stage is not None:
            self._stage.close()
        self._folder.cleanup()

    def _start(self) -> str:
        """Starts a process and returns its address when it is ready."""
        self._starts += 1
        address = f"unix:{Path(self._folder.name) / f'{self._starts}.sock'}"
        started = time.monotonic()
        try:
            self._process = process = subprocess.Popen(
                self.hosted.command(address), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise StageError(f"{self.hosted.stage}: its process cannot be started: {error.strerror}") from error
        try:
            report = self._report(process, started + LOAD_S)
        except BaseException:
            self._end()
            raise
        if "ready" not in report:
            self._end()
            raise ERRORS.get(report.get("reason", ""), CascadeError)(report.get("error", "no reason given"))
        seconds = round(time.monotonic() - started, 3)
        log.info("stage ready", extra={"stage": self.hosted.stage, "pid": process.pid, "seconds": seconds})
        return address

    def _report(self, process: subprocess.Popen[bytes], deadline: float) -> dict[str, str]:
        """The line that the process tells about itself.

        Raises:
            StageError: it ended without one, or takes too long.
            UnavailableError: the host is being stopped.
        """
        assert process.stdout is not None, "it was asked for as a pipe"
        line = b""
        told = select.poll()  # select() takes no descriptor above 1023, and a busy server has more
        told.register(process.stdout, select.POLLIN)
        while not line.endswith(b"\n"):
            if self._stopping.is_set():
                raise StageError(f"{self.hosted.stage} was stopped while it was loading")
            if time.monotonic() > deadline:
                raise StageError(f"{self.hosted.stage} was not ready within {LOAD_S:g} s")
            if told.poll(1000 * LOOK_S):
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    code = process.wait()
                    raise StageError(f"{self.hosted.stage}: its process ended with code {code} before it was ready")
                line += piece
        try:
            report: dict[str, str] = json.loads(line)
        except ValueError as error:
            raise StageError(f"{self.hosted.stage}: its process told something else than its state") from error
        return report

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                log.warning("a stage's process had to be killed", extra={"stage": self.hosted.stage})
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def _watch(self) -> None:
        """On a thread: waits for the process to end, and starts it again, until the host is stopped."""
        wait_s, since = BACKOFF_S[0], time.monotonic()
        while not self._stopping.wait(LOOK_S):
            if self._process is not None and self._process.poll() is None:
                if self._stage is not None and self._stage.hangs:
                    log.error("a stage's process hangs", extra={"stage": self.hosted.stage})
                    self._process.kill()
                    self._process.wait()
                else:
                    continue
            lived = time.monotonic() - since
            if self._process is not None:
                code = self._process.returncode
                log.error("a stage's process ended", extra={"stage": self.hosted.stage, "exit_code": code})
                self.on_change(False)
                self._end()
            if lived > STABLE_S:
                wait_s = BACKOFF_S[0]
            if self._stopping.wait(wait_s):
                return
            wait_s = min(2 * wait_s, BACKOFF_S[1])
            since = time.monotonic()
            self._restart()

    def _restart(self) -> None:
        assert self._stage is not None, "open() comes first"
        try:
            address = self._start()
            self._stage.reconnect(address)
        except CascadeError as error:
            fields = {"stage": self.hosted.stage, "reason": error.reason, "error": str(error)}
            log.error("a stage could not be started again", extra=fields)
            self._end()
        else:
            self.address = address
            self.on_change(True)
