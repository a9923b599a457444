"""What processes of other users send to a server: agents, or whoever else is on the machine."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from tests.servers import RunningServer

AGENT_UID: Final = 98_765
"""One of those that agents are given, of no server that tests run."""

OTHER_UID: Final = 64_321
"""None of those."""

_CODE: Final = """
import http.client, json, os, socket, sys
uid, place, method, path, headers, hurries = json.load(sys.stdin)
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
connection = http.client.HTTPConnection("localhost", timeout=20)
if isinstance(place, str):
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(place)
else:
    connection.sock = socket.create_connection(place, timeout=20)
connection.request(method, path, headers={"Host": "localhost", **headers})
if hurries:
    connection.sock.close()
    print("[0, {}]")
else:
    answer = connection.getresponse()
    print(json.dumps([answer.status, json.loads(answer.read() or "{}")]))
"""


def ask_as(
    uid: int,
    server: RunningServer,
    path: str,
    method: str = "GET",
    *,
    host: str = "127.0.0.1",
    hurries: bool = False,
    **headers: str,
) -> tuple[int, dict[str, Any]]:
    """Send a request from a process of that user, and give status and document of the answer.

    Args:
        uid: The user.
        server: Whom to ask.
        path: What.
        method: Of HTTP.
        host: By which address, unless the server listens on a Unix socket.
        hurries: Close at once, without waiting for an answer.
        headers: With underscores for dashes.
    """
    place: Any = [host, server.port]
    if server.url.startswith("unix://"):
        place = server.url.removeprefix("unix://")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", _CODE],
        input=json.dumps([uid, place, method, path, named, hurries]),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    status, document = json.loads(done.stdout)
    return int(status), document
