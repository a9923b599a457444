"""Run an agent as ATOLL does: python -m atoll --server --port PORT --agent agent.toml."""

import argparse
import os
import signal
import socket
import sys

from atoll import __version__, serving


def main():
    parser = argparse.ArgumentParser(prog="atoll")
    parser.add_argument("--server", action="store_true", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--agent", required=True)
    options = parser.parse_args()
    with open(options.agent, encoding="utf-8") as file:  # like ATOLL, fails without it
        manifest = file.read()
    if not os.access(os.path.expanduser("~"), os.W_OK):
        sys.exit("atoll: the home directory is not writable")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def answer(path):
        print("INFO: GET", path, flush=True)  # like ATOLL, a line a request
        if path == "/health":
            return 200, {"status": "healthy", "version": __version__}
        if path == "/info":
            return 200, {"pid": os.getpid(), "port": options.port, "manifest": manifest}
        return 404, {"detail": "Not Found"}

    # Like ATOLL, on every address, whatever HOST says.
    serving.serve(answer, socket.create_server(("0.0.0.0", options.port)))


main()
