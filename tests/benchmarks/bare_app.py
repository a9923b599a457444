"""The least that Falcon and waitress can do: two routes that answer bytes from a file."""

from __future__ import annotations

import sys
from pathlib import Path

import falcon
from waitress.server import create_server

THREADS = 32


class Bytes:
    """Answers the same bytes to everybody."""

    def __init__(self, data: bytes) -> None:
        """Answer data."""
        self._data = data

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._data

    on_post = on_get


def main(port: str, *answers: str) -> None:
    """Serve on port; each answer is a path with an equals sign and the file with the bytes."""
    app = falcon.App()
    for path, _, file in (answer.partition("=") for answer in answers):
        app.add_route(path, Bytes(Path(file).read_bytes()))
    create_server(
        app, host="127.0.0.1", port=int(port), threads=THREADS, asyncore_use_poll=True
    ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
