"""Start a server, deploy the greeter, call it, and keep both running until Ctrl-C.

Everything lies in a temporary directory and is gone afterwards. It is also an example of how to
deploy from Python: see `deploy`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import requests

from deployer.client import Client, Connection, Step
from deployer.errors import DeployerError
from deployer.state_dir import StateDir

GREETER: Final = Path(__file__).resolve().parent / "greeter"
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """Why the demo cannot go on, in words for the one who started it."""


class Interrupted(BaseException):
    """Somebody wants the demo to end: Ctrl-C, or a signal that asks for it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0 when it was ended by Ctrl-C, 1 when something failed, 2 when the port is taken.
    """
    options = parse(arguments)
    if is_taken(options.api_port):
        others = (
            f"--api-port {options.api_port + 10} --agent-base-port {options.agent_base_port + 100}"
        )
        print(
            f"cannot start the demo: port {options.api_port} is taken; choose others, as in:"
            f' make demo DEMO_ARGS="{others}"',
            file=sys.stderr,
        )
        return 2
    try:
        with contextlib.ExitStack() as cleanup:
            cleanup.enter_context(ending_by_signal())
            directory = cleanup.enter_context(temporary_directory())
            state = StateDir(directory / "state")
            child = cleanup.enter_context(server(state, options.api_port, options.agent_base_port))
            show(state, options.api_port)
            if not options.once:
                raise DemoError(f"the server ended by itself, with {child.wait()}")
    except Interrupted:
        print("stopped; nothing is left behind")
        return 0
    except (DemoError, DeployerError, requests.RequestException) as error:
        print(error, file=sys.stderr)
        for line in getattr(error, "evidence", ()):
            print(f"  | {line}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Deploy an example agent on a server of its own.")
    parser.add_argument("--api-port", type=int, default=8080, help="of the server [8080]")
    parser.add_argument("--agent-base-port", type=int, default=8100, help="of agents [8100]")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def is_taken(port: int) -> bool:
    """Tell whether somebody listens on a port, leaving out connections that linger on it."""
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asking.bind((HOST, port))
        except OSError:
            return True
    return False


# What is shown -----------------------------------------------------------------------------------


def show(state: StateDir, api_port: int) -> None:
    """Deploy the greeter, call it, and tell where everything is."""
    url = f"http://{HOST}:{api_port}"
    token = state.token.read_text().strip()
    print(f"deploying {GREETER.name}")
    connection = deploy(url, token)
    answer = get(f"{connection.url}/?name=Ada")
    answer.raise_for_status()
    print(f"it answers: {answer.text.strip()}")
    print(
        f"""
  agent            {connection.url}
  API              {url}/v1/agents
  documentation    {url}/docs
  OpenAPI          {url}/openapi.json
  supervisord      {url}/supervisor/
  token            {token}
                   web pages ask for it; others send `Authorization: Bearer TOKEN`
  command line     atoll-deployer list --state-dir {state.root}

Ctrl-C stops everything and removes it.""",
        flush=True,
    )


def deploy(url: str, token: str) -> Connection:
    """Deploy the greeter and give its address: all that a client has to do."""
    with Client(url, token) as client:
        deployed = client.deploy(GREETER, on_progress=tell)
    if deployed.connection is None:
        raise DemoError("cannot call the greeter: the server did not start it")
    return deployed.connection


def get(url: str) -> requests.Response:
    """Ask this machine, which no proxy named in the variables could reach."""
    with requests.Session() as web:
        web.trust_env = False
        return web.get(url, timeout=10)


def tell(step: Step) -> None:
    """Print a step once it is over."""
    if step.outcome != "running":
        print(
            f"  {step.name:<12} {step.outcome:<8} {step.duration_seconds or 0:6.2f} s", flush=True
        )


# What is made and undone -------------------------------------------------------------------------


@contextlib.contextmanager
def ending_by_signal() -> Iterator[None]:
    """Let the first signal end the block, and no further one disturb what it has to undo."""

    def end(_number: int, _frame: FrameType | None) -> None:
        ignore()
        raise Interrupted

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """Stay until everything is undone."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a directory for the server's state."""
    with tempfile.TemporaryDirectory(prefix="atoll-demo-") as name:
        directory = Path(name)
        # Agents run as users of their own and must be able to reach what is theirs below it; the
        # server guards what is not.
        directory.chmod(0o711)
        try:
            yield directory
        finally:
            ignore()


@contextlib.contextmanager
def server(
    state: StateDir, api_port: int, agent_base_port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends."""
    log = state.root.parent / "serve.log"
    command = [sys.executable, "-m", "deployer.cli", "serve", "--state-dir", str(state.root)]
    command += ["--host", HOST, "--api-port", str(api_port)]
    command += ["--agent-base-port", str(agent_base_port)]
    # No signal may come between the start of the child and the block that stops it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches only us, and we end the child in order
            preexec_fn=let_signals_come,
        )
    try:
        let_signals_come()
        wait_until_ready(child, f"http://{HOST}:{api_port}/readyz", log)
        yield child
    finally:
        ignore()
        stop(child)


def let_signals_come() -> None:
    """Deliver the signals that were blocked; a child inherits them blocked."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the server says that it can take work."""
    print("starting a server", flush=True)
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise DemoError(f"cannot start the server: it ended with {child.returncode}{said(log)}")
        with contextlib.suppress(requests.RequestException):
            if get(url).ok:
                return
        time.sleep(0.1)
    raise DemoError(f"cannot start the server: not ready after {READY_SECONDS:g} s{said(log)}")


def said(log: Path) -> str:
    """Give what the server printed, for those who have to find out why."""
    text = log.read_text(errors="replace").strip()
    return f"; it said:\n{text}" if text else " without a word"


def stop(child: subprocess.Popen[bytes]) -> None:
    """End the server, which stops its agents; kill what is left when that takes too long."""
    if child.poll() is None:
        print("\nstopping the server and its agents", flush=True)
        child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


if __name__ == "__main__":
    sys.exit(main())
