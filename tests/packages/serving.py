"""An HTTP server in a few lines, for test agents: it imports little, so that they start fast.

Each test package that serves has a link to this file, and its own copy of it once it is a ZIP.
"""

import _thread
import os
import socket


def listen(port=None):
    """Listen on the HOST and PORT that the agent was given, or on another port."""
    host = os.environ.get("HOST", "127.0.0.1")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(os.environ["PORT"]) if port is None else port))
    listener.listen(128)
    return listener


def serve(answer, listener=None):
    """Answer for ever; answer takes a path and gives a status and something that JSON can say."""
    listener = listener or listen()
    while True:
        connection, _ = listener.accept()
        _thread.start_new_thread(_answer_one, (connection, answer))


def healthy(path):
    """Say of every path that all is well."""
    return 200, {"status": "healthy"}


def _answer_one(connection, answer):
    with connection:
        connection.settimeout(30)
        try:
            request = b""
            while b"\r\n\r\n" not in request:
                block = connection.recv(65536)
                if not block:
                    return
                request += block
            status, document = answer(request.split(None, 2)[1].decode())
            import json  # only now: it costs as much as all the rest of the start

            body = json.dumps(document).encode()
            head = "HTTP/1.1 {} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.format(status, len(body)).encode() + body)
        except OSError:
            return  # the client has left
