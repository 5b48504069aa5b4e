"""What the tests of the HTTP gateway share: a server of fakes, a connection to it, and raw bytes."""

import http.client
import json
import socket
from types import SimpleNamespace

from tests.serve.guarded import Guarded

JSON = {"content-type": "application/json"}


class Asking:
    """A connection to an HTTP server, which stays open from one request to the next."""

    def __init__(self, address, context=None, token=None):
        kind = http.client.HTTPConnection if context is None else http.client.HTTPSConnection
        options = {} if context is None else {"context": context}
        self.connection = kind(address, timeout=60, **options)
        self._token = {} if token is None else {"authorization": f"Bearer {token}"}

    def __call__(self, path, body=None, headers=None, method=None):
        """The answer to a request; a body that is no bytes is sent as JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = self._token | ({} if body is None else JSON) | (headers or {})
        self.connection.request(method or ("GET" if body is None else "POST"), path, data, sent)
        found = self.connection.getresponse()
        return answer(found.status, found.headers, found.read())

    def close(self):
        self.connection.close()


def answer(status, headers, data):
    kind = headers.get("content-type", "")
    return SimpleNamespace(
        status=status, headers=headers, text=data.decode(), json=json.loads(data) if "json" in kind else None
    )


def error(found):
    """What a ``google.rpc.Status`` in JSON says: (HTTP code, gRPC code, reason, fields)."""
    details = {detail["@type"].rpartition(".")[2]: detail for detail in found.json["details"]}
    fields = [violation["field"] for violation in details.get("BadRequest", {}).get("fieldViolations", ())]
    return found.status, found.json["code"], details["ErrorInfo"]["reason"], fields


def raw(address, data, *, seconds=30):
    """What comes back for bytes on a new connection until the server closes it."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
    return found


class Gateway(Guarded):
    """The server of fakes with an HTTP port."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, http=True, **options)
        self._asking = []

    def asking(self, context=None, token=None):
        """A new connection."""
        self._asking.append(Asking(self.http, context, token))
        return self._asking[-1]

    def stop(self):
        for asking in self._asking:
            asking.close()
        super().stop()
