"""An agent that greets whoever asks: GET /?name=Ada."""

import json
import os
import signal
import sys
from urllib.parse import parse_qs

import waitress

GREETING = os.environ.get("GREETING", "Hello")


def health():
    """Tell the deployment server that this agent serves."""
    return "200 OK", {"status": "healthy"}


def greet(query):
    """Greet by name."""
    name = parse_qs(query).get("name", ["world"])[0]
    return "200 OK", {"greeting": f"{GREETING}, {name}!"}


def app(environ, start_response):
    """Answer a request; this is a plain WSGI application."""
    path = environ["PATH_INFO"]
    if path == "/health":
        status, document = health()
    elif path == "/":
        status, document = greet(environ["QUERY_STRING"])
    else:
        status, document = "404 Not Found", {"error": f"there is nothing at {path}"}
    body = json.dumps(document).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(status, headers)
    return [body]


if __name__ == "__main__":
    # The server stops an agent with SIGTERM: finish what is being answered, then exit with 0.
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(0))
    # It also says where to listen; outside of it, these defaults let you try the agent by hand.
    host = os.environ.get("HOST", "127.0.0.1")
    port = int(os.environ.get("PORT", "8100"))
    print(f"serving on {host}:{port}", flush=True)  # what an agent prints is its log
    waitress.serve(app, host=host, port=port)
