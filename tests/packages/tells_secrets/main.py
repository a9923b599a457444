"""Writes its secrets to both logs, then crashes with one in its last words, now or at /crash."""

import json
import os
import sys

import serving


def crash():
    print(f"the token is {os.environ['TOKEN']}", flush=True)
    print(json.dumps({"database": os.environ["DATABASE"]}), file=sys.stderr)
    try:
        raise RuntimeError(f"cannot log in with {os.environ['TOKEN']} at {os.environ['DATABASE']!r}")
    finally:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def answer(path):
    if path == "/crash":
        crash()
    return 200, {"status": "healthy", "variables": dict(os.environ)}


if os.environ["CRASHES"] == "now":
    crash()
serving.serve(answer)
