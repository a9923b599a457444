"""What supervisord starts in place of an agent: it sets the stage and becomes the agent.

Run as ``python -I -S launcher.py PORT POLICY``, with nothing but the standard library's cheap
parts, since every start of an agent pays for its imports. (Children of a supervisord with our
plugin are it without executing it: `deployer.supervisor_plugin.forks`.) The process keeps its pid:
supervisord's signals reach the agent directly. With ``inherit HOST`` after these the agent may take
over the socket that listens there: our plugin has put it where systemd puts one, on descriptor 3.

Exit codes, should the agent not be reached: 127, something is not there; 126, it is, but cannot be
used. The one line on standard error says which.
"""

from __future__ import annotations

import os
import select
import sys

# The package without its __init__, which would read the metadata of all that is installed: every
# start would wait for it.
if __name__ == "__main__":
    _package = type(sys)("deployer")
    _package.__path__ = [os.path.dirname(__file__)]  # noqa: PTH120 - pathlib costs too much
    sys.modules["deployer"] = _package

from deployer.kernel import SandboxError, call
from deployer.resource_limits import ResourceLimits, join_groups, limit_resources
from deployer.sandboxes import Sandbox, change_user, restrict, take_namespaces

_HEADER = b"atoll-launch-policy 1"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_INHERITED_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_FILE_TYPE = 0o170000  # inode(7); the stat module is not worth its time
_SOCKET = 0o140000
_SIGKILL = 9  # the signal module costs as much as all the rest
_NOT_USABLE = 126
_NOT_FOUND = 127


class LaunchError(Exception):
    """Why the agent cannot be started; the exit code says whether something is missing."""

    def __init__(self, sentence: str, exit_code: int = _NOT_USABLE) -> None:
        """Keep the exit code beside the sentence."""
        super().__init__(sentence)
        self.exit_code = exit_code


class Policy:
    """A launch policy as the server wrote it; every text is bytes, exactly as it came."""

    def __init__(self) -> None:
        """Start with the defaults, to be filled line by line."""
        self.program = b""
        self.directory = b""
        self.executable = b""
        self.arguments: list[bytes] = []
        self.variables: dict[bytes, bytes] = {}
        self.umask = 0o077
        self.resources = ResourceLimits()
        self.sandbox = Sandbox()


def main(arguments: list[str]) -> None:
    """Become the agent that the policy describes, or say in one line why not.

    Args:
        arguments: The leased port and the path of the launch policy, then perhaps ``inherit`` and
            the host whose socket is inherited.
    """
    try:
        port, path, inherits = _parse_arguments(arguments)
        sockets = inherited_sockets() if inherits else {}  # before a file takes the descriptor
        parent = os.getppid()
        policy = read_policy(_read_file(path))
        if sockets:
            give_socket(policy.sandbox)
        confine(policy, port, parent)
        become_agent(policy, port, sockets)
    except LaunchError as error:
        os.write(2, os.fsencode(f"launcher: {error}\n"))
        sys.exit(error.exit_code)


def confine(policy: Policy, port: bytes, parent: int) -> None:
    """Apply everything of a policy but its last step, which is to become the agent.

    The order matters: limits and mounts need the privileges that a change of user gives up; that
    change makes the kernel forget to kill with the parent; Landlock forbids mounts.

    Args:
        policy: What to apply.
        port: The leased port.
        parent: The pid of supervisord, as it was before anything else.

    Raises:
        LaunchError: A step failed. Nothing is left out: this process must not become an agent.
    """
    try:
        leave_session()
        join_groups(policy.resources)
        limit_resources(policy.resources)
        take_namespaces(policy.sandbox)
        change_user(policy.sandbox)
        enter_directory(policy)
        die_with_parent(parent)
        restrict(policy.sandbox, int(port))
    except SandboxError as error:
        raise LaunchError(str(error)) from error


def leave_session() -> None:
    """Take a session of our own: agents of one could share process groups, and its terminal.

    A supervisord with our plugin has done that before. One without has made this process the leader
    of a process group, which cannot take a session: for a moment it joins supervisord's group.
    Where that is not to be had, as beyond a pid namespace, the terminal at least is given up.

    Raises:
        LaunchError: Nor can it be given up; who writes to it can type on it.
    """
    own = os.getpid()
    if os.getsid(0) == own:
        return
    try:
        if os.getpgrp() == own:
            os.setpgid(0, os.getpgid(os.getppid()))
        os.setsid()
    except OSError:
        try:
            os.setpgid(0, 0)  # supervisord's signals are for this group
            _give_up_terminal()
        except OSError as error:
            raise LaunchError(f"cannot give up the terminal: {error.strerror}") from error


def read_policy(data: bytes) -> Policy:
    """Read a launch policy's lines; see `deployer.launch_policies` for the writer.

    Raises:
        LaunchError: It is of another format, was cut short, or holds a line that is not understood:
            a limit that is not applied is worse than an agent that does not start.
    """
    lines = data.split(b"\n")
    if lines[0] != _HEADER or lines[-2:] != [b"end", b""]:
        raise LaunchError("cannot use the launch policy: it is cut short or of another format")
    policy = Policy()
    for line in lines[1:-2]:
        try:
            _read_line(policy, line)
        except ValueError as error:
            raise LaunchError(f"cannot use the launch policy: line {line!r}: {error}") from error
    return policy


def inherited_sockets() -> dict[bytes, bytes]:
    """Give the variables of sd_listen_fds(3), if there is a socket to inherit.

    A supervisord without our plugin hands none over. Then there are no variables, and an agent that
    keeps to the convention binds its port itself.
    """
    try:
        is_socket = os.fstat(_INHERITED_DESCRIPTOR).st_mode & _FILE_TYPE == _SOCKET
    except OSError:
        return {}
    return {b"LISTEN_FDS": b"1", b"LISTEN_PID": b"%d" % os.getpid()} if is_socket else {}


def give_socket(sandbox: Sandbox) -> None:
    """Give the inherited socket to the agent's user, while this process still may.

    Else the agent could make it one that connects, and would call as whoever made it: supervisord.

    Raises:
        LaunchError: The kernel refused.
    """
    if sandbox.uid is None:
        return
    try:
        os.fchown(_INHERITED_DESCRIPTOR, sandbox.uid, sandbox.uid)
    except OSError as error:
        raise LaunchError(f"cannot give the socket to the agent: {error.strerror}") from error


def enter_directory(policy: Policy) -> None:
    """Set umask and working directory; after the mounts, for a directory keeps its own alive."""
    os.umask(policy.umask)
    try:
        os.chdir(policy.directory)
    except OSError as error:
        raise _error("enter", policy.directory, error) from error


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when supervisord dies.

    A later change of the user id would undo it. supervisord may have died before: then the parent
    is another one by now, or nobody holds the far end of standard input any more.
    """
    if sys.platform != "linux":
        return
    act = "tie the agent's life to supervisord's"
    call("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0, act=act)
    stdin = select.poll()
    stdin.register(0, 0)  # a hang-up is reported unasked
    if os.getppid() != parent or any(event & select.POLLHUP for _, event in stdin.poll(0)):
        raise LaunchError("cannot start the agent: supervisord is gone")


def become_agent(policy: Policy, port: bytes, sockets: dict[bytes, bytes]) -> None:
    """Replace this program by the agent's, with the variables named here and no others."""
    variables = {**policy.variables, b"PORT": port, b"ATOLL_AGENT_PORT": port, **sockets}
    try:
        os.execve(policy.executable, [policy.executable, *policy.arguments], variables)  # noqa: S606 - to become it is the point
    except OSError as error:
        raise _error("execute", policy.executable, error) from error


def _give_up_terminal() -> None:
    try:
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        terminal = os.open("/dev/tty", flags)
    except OSError:
        return  # there is none
    import fcntl  # noqa: PLC0415 - seldom needed, and every start would pay
    import termios  # noqa: PLC0415 - the same

    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    finally:
        os.close(terminal)


def _parse_arguments(arguments: list[str]) -> tuple[bytes, str, bool]:
    match arguments:
        case [port, path] if port.isdecimal():
            return port.encode(), path, False
        case [port, path, "inherit", _host] if port.isdecimal():
            return port.encode(), path, True
    raise LaunchError("cannot start: the arguments must be a port and the path of a launch policy")


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs more than all the rest
            return file.read()
    except OSError as error:
        raise _error("read", os.fsencode(path), error) from error


def _read_line(policy: Policy, line: bytes) -> None:
    key, _, escaped = line.partition(b" ")
    text = _unescape(escaped)
    if key == b"argument":
        policy.arguments.append(text)
    elif key == b"variable":
        name, _, value = text.partition(b"=")
        policy.variables[name] = value
    elif key in {b"program", b"directory", b"executable"}:
        setattr(policy, key.decode(), text)
    elif key == b"umask":
        policy.umask = int(text, 8)
    elif not (policy.resources.read_line(key, text) or policy.sandbox.read_line(key, text)):
        raise ValueError("unknown")


def _unescape(text: bytes) -> bytes:
    if b"\\" not in text:
        return text
    # a NUL cannot occur in a policy, so it can stand for a backslash meanwhile
    text = text.replace(b"\\\\", b"\0").replace(b"\\n", b"\n").replace(b"\\r", b"\r")
    return text.replace(b"\0", b"\\")


def _error(act: str, path: bytes, error: OSError) -> LaunchError:
    missing = isinstance(error, FileNotFoundError)
    return LaunchError(
        f"cannot {act} {os.fsdecode(path)}: {error.strerror}",
        _NOT_FOUND if missing else _NOT_USABLE,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
