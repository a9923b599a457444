"""Serves, and starts a process that gets away from everything that a process can get away from."""

import os

import serving

listener = serving.listen()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        os.execve("/bin/sleep", ["sleep", "600"], {})
    os._exit(0)
os.wait()
serving.serve(serving.healthy, listener)
