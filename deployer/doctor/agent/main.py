"""An agent that is to be broken: it serves, dies or hangs as it is told."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODE = os.environ["SELFTEST_MODE"]
HANGS = threading.Event()


class Answer(BaseHTTPRequestHandler):
    """Answers every path; after ``/hang`` none any more."""

    def do_GET(self) -> None:
        """Answer, if it is not to hang."""
        if HANGS.is_set():
            threading.Event().wait(60)
        if self.path == "/hang":
            HANGS.set()
        self.send_response(500 if MODE == "bad" else 200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's own name
        """Keep the log quiet."""


if MODE == "crash":
    sys.exit("told to crash at start")
ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Answer).serve_forever()
