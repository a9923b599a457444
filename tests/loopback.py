"""Others on this machine: an index that answers, and a program that has somebody's port."""

from __future__ import annotations

import contextlib
import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

LISTEN = """
import socket, sys
held = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
input()
"""


@contextlib.contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve a directory over HTTP on loopback."""
    handler = functools.partial(QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word on the terminal."""

    def log_message(self, *words: object) -> None:
        pass


@contextlib.contextmanager
def thief(port: int) -> Iterator[int]:
    """Run a program that listens on a port; gives its pid."""
    command = [sys.executable, "-c", LISTEN, str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"listening\n"
        try:
            yield child.pid
        finally:
            child.kill()
