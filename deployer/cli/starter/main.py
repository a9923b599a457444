"""An agent: it answers ``GET /?name=Ada``, and tells at ``/health`` that it serves."""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

GREETING = os.environ.get("GREETING", "Hello")


def health(query):
    """Tell the deployment server that this agent serves."""
    return 200, {"status": "healthy"}


def greet(query):
    """Greet by name."""
    name = query.get("name", ["world"])[0]
    return 200, {"answer": f"{GREETING}, {name}!"}


PATHS = {"/health": health, "/": greet}


class Answers(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self):
        """Answer with JSON."""
        parts = urlsplit(self.path)
        answer = PATHS.get(parts.path)
        if answer is None:
            status, document = 404, {"error": f"there is nothing at {parts.path}"}
        else:
            status, document = answer(parse_qs(parts.query))
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """Log each request but the health checks; what is printed is the agent's log."""
        if not self.path.startswith("/health"):
            print(self.address_string(), format % args, flush=True)


if __name__ == "__main__":
    # The server stops an agent with SIGTERM: end with 0.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    # It says where to listen; without it, these let you try the agent by hand.
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8100"))
    with ThreadingHTTPServer((host, port), Answers) as server:
        print(f"listening on {host}:{port}", flush=True)
        server.serve_forever()
