"""Forks a child that serves, and dies DIE_AFTER_SECONDS later, or when asked for /die."""

import os
import signal
import sys
import time

import serving

listener = serving.listen()
main = os.getpid()


def answer(path):
    if path == "/die":
        os.kill(main, signal.SIGKILL)
    return 200, {"status": "healthy", "pid": os.getpid(), "main": main}


if os.fork() == 0:
    serving.serve(answer, listener)
listener.close()
time.sleep(float(os.environ["DIE_AFTER_SECONDS"]))
print("leaving a child behind", file=sys.stderr)
sys.exit(1)
