"""A peer of the standard library alone: gives a fixed logit, or ends at once. Arguments: port, logit."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, unsafe = sys.argv[1:3]
if unsafe == "ends":
    sys.exit("this peer has no mind to run")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        reply = json.dumps({"unsafe": float(unsafe)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True


Server(("127.0.0.1", int(port)), Handler).serve_forever()
