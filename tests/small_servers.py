"""A small real HTTP server that answers as a test says."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deployer.client import Client


@dataclass
class Request:
    method: str
    path: str
    body: bytes
    headers: dict[str, str]

    @property
    def media(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    status: int = 200
    media: Any = None
    text: str | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    breaks_off: bool = False


class Hangup:
    """Closes the connection without a word."""


Respond = Callable[[Request], Answer | Hangup]


@dataclass
class Server:
    """A real HTTP server; `respond` decides each answer, `requests` holds what came."""

    url: str
    requests: list[Request]

    @property
    def calls(self) -> list[str]:
        return [f"{each.method} {each.path}" for each in self.requests]


@contextmanager
def serving(respond: Respond) -> Iterator[Server]:
    requests: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            request = Request(self.command, self.path, self.rfile.read(length), dict(self.headers))
            requests.append(request)
            answer = respond(request)
            if isinstance(answer, Hangup):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            text = json.dumps(answer.media) if answer.text is None else answer.text
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", answer.content_type)
            if answer.breaks_off:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(f"{len(text):x}\r\n{text}\r\n".encode())
                self.close_connection = True  # without the chunk that would end the body
                return
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - names of http.server

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", requests)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def client_of(respond: Respond, **options: Any) -> Iterator[tuple[Client, Server]]:
    with serving(respond) as server, Client(server.url, **options) as client:
        yield client, server


def one_after_another(*answers: Answer | Hangup) -> Respond:
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
