"""A client that speaks HTTP/2 by hand, and so can speak it badly, slowly, or stop in the middle of a word."""

import socket
import struct
import time
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

CHECK = "/cascade.v1.CascadeService/Check"
STREAM = "/cascade.v1.CascadeService/CheckStream"
CONFIG = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None)


def headers(path=CHECK, **changed):
    """The headers of a call; a value of None leaves one out, and ``_`` in a name stands for ``-``."""
    usual = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    for name, value in changed.items():
        usual[name.replace("_", "-").replace("pseudo-", ":")] = value
    return [(name.encode(), value.encode("latin1")) for name, value in usual.items() if value is not None]


def prefixed(message):
    """A message with gRPC's prefix: not compressed, so many bytes."""
    return b"\0" + struct.pack(">I", len(message)) + message


def frame(kind, flags, stream, payload, length=None):
    """A frame of HTTP/2, whose length may lie."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Wire:
    """One connection."""

    def __init__(self, port, *, greet=True, window=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.h2 = H2Connection(CONFIG)
        self.answered, self.settled = b"", False
        self.ended = {}  # by stream: the trailing gRPC status, or "reset"
        if greet:
            self.h2.initiate_connection()
            if window is not None:
                self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
            self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        self.raw(self.h2.data_to_send())

    def raw(self, data):
        """Sends bytes as they are; that the server has hung up by now is its right."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def begin(self, given):
        """Begins a call; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, given)
        self.flush()
        return stream

    def say(self, stream, data, *, last=False):
        self.h2.send_data(stream, data, end_stream=last)
        self.flush()

    def vanish(self):
        """Goes as a process that is killed does: the other side gets a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def hear(self, seconds=60, *, until=lambda wire: False, credit=True):
        """Reads until the server hangs up, a stream ends, or ``until``; returns whether it came to that in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if until(self) or self.ended:
                return True
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True
            if not data:
                return True
            self._take(data, credit)
        return False

    def _take(self, data, credit):
        try:
            events = self.h2.receive_data(data)
        except ProtocolError:  # what was sent by hand confuses our own side
            return
        for event in events:
            if isinstance(event, RemoteSettingsChanged):
                self.settled = True
            elif isinstance(event, DataReceived):
                self.answered += event.data
                if credit:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, ResponseReceived | TrailersReceived):
                status = dict(event.headers).get(b"grpc-status")
                if status is not None:
                    self.ended[event.stream_id] = int(status)
            elif isinstance(event, StreamReset):
                self.ended.setdefault(event.stream_id, "reset")
            elif isinstance(event, StreamEnded):
                self.ended.setdefault(event.stream_id, "ended")
            elif isinstance(event, ConnectionTerminated):
                self.ended.setdefault(0, "goaway")
        self.flush()
