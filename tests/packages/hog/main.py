"""Takes what it is asked to take, bounded in size and time, should nobody stop it.

The paths: /memory/MB in this process, /children/COUNT/MB in so many children, /shared/MB in a shared
mapping, /escaped/MB in a process of its own session whose parent has ended, /spin/COUNT children
that use a CPU each, /fork/COUNT children that sleep, /flood/MB of log, of which /written tells, /disk/MB in the data
directory, /raise: a MemoryError.
"""

import mmap
import os
import sys
import threading
import time

import serving

MB = 1_000_000
SECONDS = 20
CHILDREN = []
WRITTEN = [0]


def take_memory(megabytes):
    blocks = []
    for _ in range(megabytes):
        blocks.append(b"x" * MB)
        time.sleep(0.002)
    time.sleep(SECONDS)


def share_memory(megabytes):
    mapping = mmap.mmap(-1, megabytes * MB)
    for offset in range(0, megabytes * MB, 4096):
        mapping[offset] = 1
    time.sleep(SECONDS)


def fork(act, *arguments):
    pid = os.fork()
    if pid == 0:
        try:
            act(*arguments)
        finally:
            os._exit(0)
    CHILDREN.append(pid)


def escape(act, *arguments):
    """Leave the process group, the session and the parent behind."""

    def leave():
        os.setsid()
        fork(act, *arguments)

    fork(leave)
    os.waitpid(CHILDREN.pop(), 0)


def spin():
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        pass


def flood(megabytes):
    line = b"y\n" * 32768
    for _ in range(megabytes * MB // len(line)):
        WRITTEN[0] += os.write(1, line)


def fill_disk(megabytes):
    with open(os.path.join(os.environ["ATOLL_AGENT_DATA_DIR"], "filling"), "wb") as file:
        for _ in range(megabytes):
            file.write(b"x" * MB)


def run_out(_):
    print("Traceback (most recent call last):", file=sys.stderr)
    print('  File "main.py", line 1, in run_out', file=sys.stderr)
    print("MemoryError", file=sys.stderr, flush=True)
    os._exit(1)


def answer(path):
    if path == "/health":
        return 200, {"status": "healthy"}
    if path == "/variables":
        return 200, dict(os.environ)
    if path == "/written":
        return 200, {"bytes": WRITTEN[0]}
    word, *numbers = path.strip("/").split("/")
    numbers = [int(number) for number in numbers]
    acts = {
        "memory": lambda: threading.Thread(target=take_memory, args=numbers).start(),
        "children": lambda: [fork(take_memory, numbers[1]) for _ in range(numbers[0])],
        "shared": lambda: threading.Thread(target=share_memory, args=numbers).start(),
        "escaped": lambda: escape(take_memory, *numbers),
        "spin": lambda: [fork(spin) for _ in range(numbers[0])],
        "fork": lambda: [fork(time.sleep, SECONDS) for _ in range(numbers[0])],
        "flood": lambda: threading.Thread(target=flood, args=numbers).start(),
        "disk": lambda: fill_disk(*numbers),
        "raise": lambda: run_out(0),
    }
    try:
        acts[word]()
    except OSError as error:
        return 500, {"error": str(error), "children": len(CHILDREN)}
    return 200, {"children": len(CHILDREN)}


serving.serve(answer)
