"""Serves with nothing but the standard library, and tells what it was given at /info."""

import os
import sys

import serving


def version():
    """Read it out of the manifest, so that a test need change it only there."""
    with open("agent.toml", encoding="utf-8") as manifest:
        line = next(line for line in manifest if line.startswith("version ="))
    return line.split('"')[1]


def answer(path):
    if path == "/health":
        return 200, {"status": "healthy"}
    if path == "/info":
        return 200, {
            "pid": os.getpid(),
            "port": int(os.environ["PORT"]),
            "cwd": os.getcwd(),
            "version": version(),
            "python": sys.executable,
            "uid": os.getuid(),
            "variables": dict(os.environ),
        }
    return 404, {"error": "no such path"}


serving.serve(answer)
