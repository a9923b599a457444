"""What judging packages costs: run as a program, in a process that does nothing else.

``python -m tests.package_costs FILE...`` prints one JSON object: by file, seconds of CPU and the
largest resident set in bytes. Each package is received, judged and, if it passes, unpacked in a
child of its own, which the kernel ends when it burns CPU without end.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

from deployer.errors import DeployerError
from deployer.packages import inspect, receive, unpack
from deployer.settings import LimitSettings

_LONGEST_CPU_SECONDS = 20
_LIMITS = LimitSettings()


def measure(path: Path) -> tuple[float, int]:
    """Take one package in; gives what `wait4` says of the child that did."""
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (_LONGEST_CPU_SECONDS, _LONGEST_CPU_SECONDS))
        take_in(path)
        os._exit(0)
    _, status, used = os.wait4(pid, 0)
    if status:
        raise RuntimeError(f"{path.name}: ended with status {status}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def take_in(path: Path) -> None:
    """Go the way of every upload."""
    with tempfile.TemporaryDirectory() as directory, path.open("rb") as stream:
        try:
            received = receive(stream, Path(directory), max_bytes=_LIMITS.upload_bytes)
            inspect(received.path, _LIMITS, has_runtime=False)
            unpack(received.path, Path(directory) / "code", _LIMITS)
        except DeployerError:
            return


if __name__ == "__main__":
    json.dump({name: measure(Path(name)) for name in sys.argv[1:]}, sys.stdout)
