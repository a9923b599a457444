"""Serves; on being asked it attacks another agent, or does what honest agents do.

Every agent of this package also has what others may want to get at: files, sockets, shared memory.
"""

import os
import socket
import subprocess
import sys
import threading

import serving

DATA = os.environ["ATOLL_AGENT_DATA_DIR"]
NAME = os.environ["ATOLL_AGENT_NAME"]
SYSV_KEY = 0x41544F4C


def hold_what_others_want():
    for path in (f"{DATA}/secret", f"/tmp/{NAME}", f"/dev/shm/{NAME}"):
        try:
            with open(path, "w") as file:
                file.write("secret")
        except OSError as error:
            print("cannot make", path, error, flush=True)
    for address in (f"\0{NAME}", f"{DATA}/socket"):
        listener = socket.socket(socket.AF_UNIX)
        if not address.startswith("\0") and os.path.exists(address):
            os.unlink(address)
        listener.bind(address)
        listener.listen()
        threading.Thread(target=accept_for_ever, args=(listener,), daemon=True).start()
    if NAME == "victim":
        import ctypes

        ctypes.CDLL(None).shmget(SYSV_KEY, 4096, 0o1600)  # IPC_CREAT


def accept_for_ever(listener):
    while True:
        listener.accept()[0].close()


def answer(path):
    if path == "/health":
        return 200, {"status": "healthy"}
    script, _, argument = path.strip("/").partition("?")
    done = subprocess.run(
        [sys.executable, f"{script}.py", argument],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    return 200, {"out": done.stdout, "err": done.stderr}


hold_what_others_want()
serving.serve(answer)
