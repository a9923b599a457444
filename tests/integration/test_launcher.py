"""The launcher as supervisord starts it: a process of its own, without site and without mercy."""

from __future__ import annotations

import errno
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import deployer.launcher
from deployer.launch_policies import (
    Cover,
    LaunchPolicy,
    ResourceLimits,
    RunGroupPlan,
    Sandbox,
    policy_bytes,
)
from deployer.peers import Peer, Peers
from tests.supervisord_process import is_alive, seconds_until

SHOW = """\
import json, os, resource, sys
json.dump({
    "pid": os.getpid(), "argv": sys.argv[1:], "cwd": os.getcwd(), "umask": os.umask(0),
    "env": dict(os.environ), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "core": resource.getrlimit(resource.RLIMIT_CORE),
}, sys.stdout)
"""
LAUNCHER = str(Path(deployer.launcher.__file__).resolve())
EXECUTED = (sys.executable, "-I", "-S", LAUNCHER)
FORK = """\
import os, sys
from pathlib import Path
from types import SimpleNamespace
from deployer.supervisor_plugin import forks

file, launcher, *arguments = sys.argv[1:]
forks._SOURCES.append(file)
options = SimpleNamespace(execve=lambda *_: sys.exit("executed"))
forks.launch_in_forks(options)
if arguments[0] == "replaced":
    Path(file).write_text("as an upgrade does")
command = [sys.executable, "-I", "-S", launcher, *arguments[-2:]]
options.execve(sys.executable, command, dict(os.environ))
"""


def launch(
    tmp_path: Path, *, port: str = "8123", stdin: int = subprocess.DEVNULL, **fields: object
) -> tuple[int, subprocess.CompletedProcess[str]]:
    values: dict[str, object] = {
        "program": "weather--7",
        "executable": Path(sys.executable),
        "arguments": ("-I", "-S", "-c", SHOW),
        "directory": tmp_path,
        "port": 8123,
    }
    path = tmp_path / "policy"
    path.write_bytes(policy_bytes(LaunchPolicy(**(values | fields))))  # type: ignore[arg-type]  # of any field
    return run(port, str(path), stdin=stdin)


def run(
    *arguments: str, stdin: int = subprocess.DEVNULL, way: Sequence[str] = EXECUTED
) -> tuple[int, subprocess.CompletedProcess[str]]:
    command = [*way, *arguments]
    with subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"SERVER_SECRET": "x", "LD_PRELOAD": "", "PORT": "1"},
    ) as process:
        out, err = process.communicate(timeout=20)
    return process.pid, subprocess.CompletedProcess(command, process.returncode, out, err)


def show(tmp_path: Path, **fields: object) -> tuple[int, dict[str, object]]:
    pid, done = launch(tmp_path, **fields)
    assert done.returncode == 0, done.stderr
    return pid, json.loads(done.stdout)


def test_the_agent_has_the_pid_that_supervisord_knows(tmp_path: Path) -> None:
    pid, seen = show(tmp_path)

    assert seen["pid"] == pid


def test_the_agent_has_the_policys_variables_and_the_port_and_no_others(tmp_path: Path) -> None:
    _, seen = show(tmp_path, variables={"KEY": "two\nlines %s", "PORT": "9", "LC_CTYPE": "C.UTF-8"})

    assert seen["env"] == {
        "KEY": "two\nlines %s",
        "PORT": "8123",
        "ATOLL_AGENT_PORT": "8123",
        "LC_CTYPE": "C.UTF-8",
    }


def test_arguments_arrive_exactly(tmp_path: Path) -> None:
    odd = ["", "a b", "\n", "\\n", "ü", "'\"%(here)s"]

    _, seen = show(tmp_path, arguments=("-I", "-S", "-c", SHOW, *odd))

    assert seen["argv"] == odd


def test_the_agent_starts_in_its_directory_with_its_umask(tmp_path: Path) -> None:
    directory = tmp_path / "code"
    directory.mkdir()

    _, seen = show(tmp_path, directory=directory, umask=0o027)

    assert (seen["cwd"], seen["umask"]) == (str(directory), 0o027)


def test_descriptors_are_limited_and_cores_are_off(tmp_path: Path) -> None:
    _, seen = show(tmp_path, open_files=123)

    assert (seen["files"], seen["core"]) == ([123, 123], [0, 0])


def test_a_missing_executable_is_told_in_one_line(tmp_path: Path) -> None:
    _, done = launch(tmp_path, executable=Path("/nowhere/python"))

    assert done.returncode == 127
    assert done.stderr == "launcher: cannot execute /nowhere/python: No such file or directory\n"


def test_a_file_that_cannot_be_executed_is_told_in_one_line(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch(mode=0o600)

    _, done = launch(tmp_path, executable=plain)

    assert done.returncode == 126
    assert done.stderr.count("\n") == 1


def test_a_missing_directory_is_told_in_one_line(tmp_path: Path) -> None:
    _, done = launch(tmp_path, directory=Path("/nowhere"))

    assert (done.returncode, done.stderr) == (
        127,
        "launcher: cannot enter /nowhere: No such file or directory\n",
    )


def test_a_missing_policy_is_told_in_one_line() -> None:
    _, done = run("8123", "/nowhere")

    assert (done.returncode, done.stderr.count("\n")) == (127, 1)


def test_a_policy_cut_short_starts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_bytes(b"atoll-launch-policy 1\nexecutable /bin/true\n")

    _, done = run("8123", str(path))

    assert done.returncode == 126
    assert "cut short" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("8123",), ("x", "policy"), ("8123", "p", "more")])
def test_other_arguments_start_nothing(arguments: tuple[str, ...]) -> None:
    _, done = run(*arguments)

    assert (done.returncode, done.stderr.count("\n")) == (126, 1)


@pytest.fixture
def forked(tmp_path: Path) -> tuple[str, ...]:
    """The way of a child of supervisord's, with one more file of the launcher's."""
    source = tmp_path / "source.py"
    source.touch()
    return (sys.executable, "-c", FORK, str(source), LAUNCHER)


def test_a_fork_is_the_launcher_without_executing_it(
    tmp_path: Path, forked: tuple[str, ...]
) -> None:
    launch(tmp_path, variables={"KEY": "value"})  # writes the policy

    pid, done = run("8123", str(tmp_path / "policy"), way=forked)

    seen = json.loads(done.stdout)
    assert (seen["pid"], seen["env"]["KEY"], seen["core"]) == (pid, "value", [0, 0])
    assert "SERVER_SECRET" not in seen["env"]


def test_a_fork_that_cannot_launch_ends_as_the_launcher_does(forked: tuple[str, ...]) -> None:
    _, done = run("8123", "/nowhere", way=forked)

    assert done.returncode == 127
    assert done.stderr == "launcher: cannot read /nowhere: No such file or directory\n"


def test_a_launcher_that_was_replaced_is_executed(forked: tuple[str, ...]) -> None:
    _, done = run("replaced", "8123", "/nowhere", way=forked)

    assert done.stderr == "executed\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_an_agent_does_not_start_when_supervisord_is_gone(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)  # as the kernel does when supervisord dies
    try:
        _, done = launch(tmp_path, stdin=read_end)
    finally:
        os.close(read_end)

    assert done.returncode == 126
    assert "supervisord is gone" in done.stderr


def test_an_agent_whose_sandbox_cannot_be_made_does_not_start(tmp_path: Path) -> None:
    sandbox = Sandbox(has_namespaces=True, exposed=(tmp_path / "missing",))

    _, done = launch(tmp_path, sandbox=sandbox)

    assert (done.returncode, done.stdout) == (126, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users away")
def test_an_agent_becomes_its_own_user_in_no_other_group(tmp_path: Path) -> None:
    script = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"

    _, done = launch(
        tmp_path,
        executable=Path("/usr/bin/python3"),
        arguments=("-I", "-S", "-c", script),
        directory=Path("/"),
        sandbox=Sandbox(uid=71234),
    )

    assert done.stdout == "(71234, 71234, 71234) (71234, 71234, 71234) []\n", done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may not be allowed namespaces")
def test_a_covered_directory_is_empty_but_for_what_is_exposed(tmp_path: Path) -> None:
    for name in ("kept", "fixed", "hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    sandbox = Sandbox(
        has_namespaces=True,
        covers=(Cover(tmp_path, 0o711, 65536),),
        exposed=(tmp_path / "kept",),
        exposed_read_only=(tmp_path / "fixed",),
    )
    script = """\
import os
print(*sorted(os.listdir(".")))
open("kept/new", "w")
try:
    open("fixed/new", "w")
except OSError as error:
    print(error.strerror)
"""

    _, done = launch(tmp_path, arguments=("-I", "-S", "-c", script), sandbox=sandbox)

    assert done.stdout == "fixed kept\nRead-only file system\n", done.stderr
    assert (tmp_path / "kept" / "new").exists()


def test_an_inherited_socket_is_announced_as_systemd_does(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pid, variables = inherit(tmp_path, f"os.dup2({listener.fileno()}, 3)", listener.fileno())

    assert (variables["LISTEN_FDS"], variables["LISTEN_PID"]) == ("1", str(pid))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives users away")
def test_an_inherited_socket_that_is_made_to_connect_calls_as_the_agent(tmp_path: Path) -> None:
    connect = (
        "import socket, sys\n"
        "inherited = socket.socket(fileno=3)\n"
        "inherited.shutdown(socket.SHUT_RDWR)\n"  # it listens no more, and may connect
        "inherited.connect(('127.0.0.1', int(sys.argv[1])))\n"
        "print('{\"env\": {}}', flush=True)\n"
        "inherited.recv(1)"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0)) as api,
        ThreadPoolExecutor(1) as pool,
    ):
        accepted = pool.submit(_peer_at, api)
        arguments = ("-I", "-S", "-c", connect, str(api.getsockname()[1]))
        inherit(
            tmp_path,
            f"os.dup2({listener.fileno()}, 3)",
            listener.fileno(),
            arguments=arguments,
            sandbox=Sandbox(uid=71234),
        )

    assert accepted.result(20) == Peer(71234)


def _peer_at(listener: socket.socket) -> Peer:
    connection, address = listener.accept()
    with connection:
        return Peers().find(connection, address)


@pytest.mark.parametrize("no_socket", ["os.closerange(3, 100)", "os.dup2(0, 3)"])
def test_no_socket_is_announced_that_is_not_there(tmp_path: Path, no_socket: str) -> None:
    _, variables = inherit(tmp_path, no_socket)

    assert "LISTEN_FDS" not in variables
    assert variables["PORT"] == "8123"


def inherit(
    tmp_path: Path,
    prepare: str,
    *descriptors: int,
    arguments: tuple[str, ...] = ("-I", "-S", "-c", SHOW),
    sandbox: Sandbox = Sandbox(),  # noqa: B008 - frozen
) -> tuple[int, dict[str, str]]:
    """Launch by a process that prepares its descriptors first; give pid and variables."""
    path = tmp_path / "policy"
    python = Path(sys.executable if sandbox.uid is None else "/usr/bin/python3")
    directory = tmp_path if sandbox.uid is None else Path("/")
    policy = LaunchPolicy("weather--7", python, arguments, directory, 8123, sandbox=sandbox)
    path.write_bytes(policy_bytes(policy))
    command = [sys.executable, "-I", "-S", LAUNCHER, "8123", str(path), "inherit", "127.0.0.1"]
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; {prepare}; os.execv({sys.executable!r}, {command!r})"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=descriptors,
    ) as process:
        out, _ = process.communicate(timeout=20)
    variables: dict[str, str] = json.loads(out)["env"]
    return process.pid, variables


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills with the parent")
def test_the_agent_dies_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    sleeper = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    policy = LaunchPolicy(
        "weather--7", Path(sys.executable), ("-I", "-S", "-c", sleeper), tmp_path, 8123
    )
    path.write_bytes(policy_bytes(policy))
    parent = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen({[sys.executable, '-I', '-S', LAUNCHER, '8123', str(path)]!r})\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        agent = int(process.stdout.readline())
        assert is_alive(agent)

        process.kill()

        seconds_until(lambda: not is_alive(agent))


WHERE = """\
import json, os
try:
    terminal = os.close(os.open("/dev/tty", os.O_RDWR)) or "open"
except OSError as error:
    terminal = error.strerror
print(json.dumps([os.getpid(), os.getpgrp(), os.getsid(0), terminal]), flush=True)
"""
BESIDE_A_TERMINAL = """\
import fcntl, os, sys, termios, time
has_left, *command = sys.argv[1:]
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # of this session, as it leads it
parent = os.fork()
if parent:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1]))
child = os.fork()
if not child:
    os.setpgrp()  # as supervisord does it
    while has_left == "yes" and os.getsid(os.getppid()) != os.getppid():
        time.sleep(0.01)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execv(command[0], command)
if has_left == "yes":
    os.setsid()
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("has_left", ["no", "yes"])
def test_the_agent_shares_no_terminal_with_a_supervisord_without_our_plugin(
    tmp_path: Path, has_left: str
) -> None:
    """Where supervisord is of another session, the agent cannot leave the one that it is in."""
    path = tmp_path / "policy"
    arguments = ("-I", "-S", "-c", WHERE)
    policy = LaunchPolicy("weather--7", Path(sys.executable), arguments, tmp_path, 8123)
    path.write_bytes(policy_bytes(policy))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", BESIDE_A_TERMINAL, has_left, *EXECUTED, "8123", str(path)]
    try:
        done = subprocess.run(
            command,
            stdin=theirs,
            capture_output=True,
            text=True,
            start_new_session=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(theirs)
        os.close(ours)

    assert done.returncode == 0, done.stderr
    pid, group, session, terminal = json.loads(done.stdout)
    assert (group, session == pid) == (pid, has_left == "no")
    assert terminal == os.strerror(errno.ENXIO)


def test_a_run_is_held_to_its_resource_limits(tmp_path: Path) -> None:
    look = (
        "import json, os, resource, sys\n"
        "json.dump([resource.getrlimit(resource.RLIMIT_DATA), sorted(os.sched_getaffinity(0)),"
        " os.nice(0), open('/proc/self/oom_score_adj').read().strip()], sys.stdout)"
    )
    cpu = min(os.sched_getaffinity(0))
    resources = ResourceLimits(data_bytes=300_000_000, cpus=(cpu,), nice=3)

    _, done = launch(tmp_path, arguments=("-I", "-S", "-c", look), resources=resources)

    assert json.loads(done.stdout) == [[300_000_000] * 2, [cpu], os.nice(0) + 3, "500"]


def test_a_run_joins_a_group_of_its_own_once_its_limits_are_set(tmp_path: Path) -> None:
    # a directory takes the kernel's place: files are there, and show what was written in them
    group = RunGroupPlan(tmp_path / "weather--7", (("memory.max", "64"),))
    policy = LaunchPolicy(
        "weather--7", Path("/bin/true"), (), tmp_path, 8123, resources=ResourceLimits((group,))
    )
    path = tmp_path / "policy"
    path.write_bytes(policy_bytes(policy))
    make = (
        "import os, sys\n"
        "os.mkdir(directory := f'weather--7.{os.getpid()}')\n"
        "for file in ('memory.max', 'cgroup.procs'): open(f'{directory}/{file}', 'w').close()\n"
        "os.execv(sys.executable, sys.argv[1:])"
    )
    launched_by = [sys.executable, "-I", "-S", LAUNCHER, "8123", str(path)]
    with subprocess.Popen(
        [sys.executable, "-c", make, *launched_by], stdin=subprocess.DEVNULL, cwd=tmp_path
    ) as process:
        process.wait(timeout=20)

    directory = tmp_path / f"weather--7.{process.pid}"
    assert process.returncode == 0
    assert (directory / "memory.max").read_text() == "64"
    assert (directory / "cgroup.procs").read_text() == str(process.pid)


def test_a_limit_that_cannot_be_set_starts_nothing(tmp_path: Path) -> None:
    group = RunGroupPlan(tmp_path / "gone" / "weather--7", (("memory.max", "64"),))

    _, done = launch(tmp_path, resources=ResourceLimits(groups=(group,)))

    assert done.returncode == 126
    assert done.stderr.startswith("launcher: cannot make the control group")
