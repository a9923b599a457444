"""Tries everything against another agent; prints for each a word: open, or why it was refused."""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
import urllib.parse

VICTIM = json.loads(urllib.parse.unquote(sys.argv[1]))
PID, PORT, STATE = VICTIM["pid"], VICTIM["port"], VICTIM["state"]
TERMINAL = VICTIM["terminal"]
B = f"{STATE}/agents/victim"
SECRET = f"{B}/data/secret"
OWN_DATA = os.environ["ATOLL_AGENT_DATA_DIR"]
OWN_CODE = os.getcwd()
OWN_VENV = os.environ["VIRTUAL_ENV"]
SYSV_KEY = 0x41544F4C
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
PR_GET_NO_NEW_PRIVS = 39
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def append(path):
    with open(path, "ab"):
        pass


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    os.unlink(path)


def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)


def bind(kind, address):
    with socket.socket(socket.AF_INET, kind) as server:
        server.bind(address)


def listen_without_bind():
    with socket.socket() as server:
        server.listen()


def through_symlink():
    link = f"{OWN_DATA}/link"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(SECRET, link)
    read(link)


def through_hardlink():
    link = f"{OWN_DATA}/hard"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.link(SECRET, link)


def attach():
    check(libc.ptrace(PTRACE_ATTACH, PID, None, None))
    os.waitpid(PID, 0)
    libc.ptrace(PTRACE_DETACH, PID, None, None)


def take_nice():
    os.setpriority(os.PRIO_PROCESS, PID, os.getpriority(os.PRIO_PROCESS, PID) + 1)


def pidfd_signal():
    descriptor = os.pidfd_open(PID)
    try:
        signal.pidfd_send_signal(descriptor, 0)
    finally:
        os.close(descriptor)


def keep_privileges():
    if libc.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0):
        raise PermissionError(errno.EPERM, "no new privileges")


def run_setuid_program():
    with subprocess.Popen(["su"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        try:
            with open(f"/proc/{child.pid}/status") as file:
                status = file.read()
        finally:
            child.kill()
    effective = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[2]
    if effective == str(os.geteuid()):
        raise PermissionError(errno.EPERM, "su runs as whoever started it")


def in_a_child(act):
    """Do what changes the whole process in another one, and take its exit code for the errno."""
    child = os.fork()
    if not child:
        try:
            act()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(number, os.strerror(number))


def type_on_terminal():
    terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(terminal, termios.TIOCSTI, b"x")


def take_foreground():
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY), os.getpgrp())


def take_over_terminal():
    os.setsid()
    fcntl.ioctl(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY), termios.TIOCSCTTY, 1)


def mount_over_tmp():
    check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    check(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))


def move_own_data():
    os.rename(OWN_DATA, f"{OWN_DATA}.moved")
    os.rename(f"{OWN_DATA}.moved", OWN_DATA)


def limits():
    return resource.prlimit(PID, resource.RLIMIT_NOFILE)


ATTACKS = {
    "read B secret": lambda: read(SECRET),
    "list B dir": lambda: os.listdir(f"{B}/data"),
    "stat B secret": lambda: os.stat(SECRET),
    "list agents dir": lambda: os.listdir(f"{STATE}/agents"),
    "write B data": lambda: create(f"{B}/data/planted"),
    "chmod B data": lambda: os.chmod(f"{B}/data", 0o700),
    "utime B data": lambda: os.utime(f"{B}/data"),
    "chmod own code": lambda: os.chmod(f"{OWN_CODE}/main.py", 0o644),
    "write own code": lambda: append(f"{OWN_CODE}/main.py"),
    "create in own code": lambda: create(f"{OWN_CODE}/planted.py"),
    "write own venv": lambda: create(f"{OWN_VENV}/planted.pth"),
    "symlink to B secret": through_symlink,
    "hardlink B secret": through_hardlink,
    "read server config": lambda: read(f"{STATE}/settings.json"),
    "read secrets.key": lambda: read(f"{STATE}/secrets.key"),
    "read state.db": lambda: read(f"{STATE}/state.db"),
    "write state.db": lambda: append(f"{STATE}/state.db"),
    "read token": lambda: read(f"{STATE}/token"),
    "read /etc/shadow": lambda: read("/etc/shadow"),
    "read /root": lambda: os.listdir("/root"),
    "list /tmp": lambda: os.listdir("/tmp"),
    "write /tmp": lambda: create("/tmp/planted"),
    "/tmp file of B": lambda: os.stat("/tmp/victim"),
    "/proc/B/environ": lambda: read(f"/proc/{PID}/environ"),
    "/proc/B/cmdline": lambda: read(f"/proc/{PID}/cmdline"),
    "/proc/B/root": lambda: os.listdir(f"/proc/{PID}/root"),
    "/proc/B/cwd": lambda: os.listdir(f"/proc/{PID}/cwd"),
    "/proc/B/fd": lambda: os.listdir(f"/proc/{PID}/fd"),
    "/proc/B/mem": lambda: os.close(os.open(f"/proc/{PID}/mem", os.O_RDWR)),
    "/proc/parent/environ": lambda: read(f"/proc/{VICTIM['parent']}/environ"),
    "kill -0 B": lambda: os.kill(PID, 0),
    "kill -CONT B": lambda: os.kill(PID, signal.SIGCONT),
    "pidfd signal B": pidfd_signal,
    "kill -0 supervisord": lambda: os.kill(VICTIM["parent"], 0),
    "ptrace attach B": attach,
    "prlimit B NOFILE": lambda: resource.prlimit(PID, resource.RLIMIT_NOFILE, limits()),
    "setpriority B": take_nice,
    "sched_setaffinity B": lambda: os.sched_setaffinity(PID, os.sched_getaffinity(PID)),
    "abstract socket of B": lambda: connect(socket.AF_UNIX, "\0victim"),
    "pathname socket of B": lambda: connect(socket.AF_UNIX, f"{B}/data/socket"),
    "supervisord's socket": lambda: connect(socket.AF_UNIX, f"{STATE}/run/supervisor.sock"),
    "connect B's TCP port": lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)),
    "bind B's TCP port": lambda: bind(socket.SOCK_STREAM, ("127.0.0.2", PORT)),
    "bind third port": lambda: bind(socket.SOCK_STREAM, ("127.0.0.1", VICTIM["free_port"])),
    "listen without bind": listen_without_bind,
    "bind UDP B's port": lambda: bind(socket.SOCK_DGRAM, ("127.0.0.1", PORT)),
    "B's shared memory by name": lambda: read("/dev/shm/victim"),
    "list /dev/shm": lambda: os.listdir("/dev/shm"),
    "SysV memory of B": lambda: check(libc.shmget(SYSV_KEY, 0, 0o600)),
    "gain privileges": keep_privileges,
    "setuid program": run_setuid_program,
    "unshare and mount": lambda: in_a_child(mount_over_tmp),
    "plant a policy": lambda: create(f"{STATE}/policies/planted"),
    "list policies": lambda: os.listdir(f"{STATE}/policies"),
    "read own policy": lambda: read(f"{STATE}/policies/{os.environ['ATOLL_AGENT_PROGRAM']}"),
    "write a log": lambda: create(f"{STATE}/logs/planted"),
    "move own data away": move_own_data,
    "open /dev/tty": lambda: os.close(os.open("/dev/tty", os.O_RDWR)),
    "open the terminal": lambda: os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)),
    "type on the terminal": lambda: in_a_child(type_on_terminal),
    "take its foreground": lambda: in_a_child(take_foreground),
    "take over the terminal": lambda: in_a_child(take_over_terminal),
    "join B's process group": lambda: in_a_child(lambda: os.setpgid(0, PID)),
    "join supervisord's group": lambda: in_a_child(lambda: os.setpgid(0, VICTIM["parent"])),
    "umount /tmp": lambda: in_a_child(lambda: check(libc.umount2(b"/tmp", 2))),
}

answers = {}
for name, attack in ATTACKS.items():
    try:
        attack()
    except OSError as error:
        answers[name] = errno.errorcode[error.errno] if error.errno else str(error)
    else:
        answers[name] = "open"
print(json.dumps(answers))
