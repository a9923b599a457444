"""Serves, and exits with EXIT_CODE after CRASH_AFTER_SECONDS (empty: never), or when told to.

A file crash_after_seconds in the data directory goes before the variable, so that a test can
change its mind between two starts. /crash exits now; after /hang nothing is answered any more.
"""

import _thread
import os
import sys
import time

import serving

hanging = False


def crash():
    print("crashing as asked", file=sys.stderr, flush=True)
    os._exit(int(os.environ["EXIT_CODE"]))


def answer(path):
    global hanging
    if path == "/crash":
        crash()
    hanging = hanging or path == "/hang"
    while hanging:
        time.sleep(60)
    return 200, {"status": "healthy", "pid": os.getpid()}


def crash_after(seconds):
    time.sleep(float(seconds))
    crash()


def seconds_to_live():
    path = os.path.join(os.environ.get("ATOLL_AGENT_DATA_DIR", "."), "crash_after_seconds")
    try:
        with open(path) as file:
            return file.read().strip()
    except FileNotFoundError:
        return os.environ["CRASH_AFTER_SECONDS"]


seconds = seconds_to_live()
if seconds:
    _thread.start_new_thread(crash_after, (seconds,))
serving.serve(answer)
