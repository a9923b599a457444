"""The command line and the client with a real server, real uv and real agents."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from deployer.client import Client, Step, deployment_of
from deployer.errors import AgentUnknownError, DeployerError
from tests.free_ports import free_ports
from tests.package_zips import zip_package
from tests.servers import wait_until

READY_SECONDS = 30.0
COMMAND_SECONDS = 90.0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "deployer.cli", *map(str, arguments)]


@dataclass
class Serving:
    """A server, and the way to run commands against it."""

    state: Path
    url: str

    @property
    def token(self) -> str:
        return (self.state / "token").read_text().strip()

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command(*arguments), "--state-dir", str(self.state)],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def ok(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def json(self, *arguments: object) -> dict[str, object]:
        return dict(json.loads(self.ok(*arguments, "--json")))


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """One server for all tests of this file; each test has agents of its own."""
    # Not below tmp_path, whose name may be too long for a socket's.
    with tempfile.TemporaryDirectory(prefix="atoll-cli-") as folder:
        Path(folder).chmod(0o711)
        state, port = Path(folder, "state"), free_ports(11)
        options = ("--state-dir", state, "--api-port", port, "--agent-base-port", port + 1)
        with Path(folder, "serve.log").open("wb+") as log:
            child = subprocess.Popen(
                command("serve", *options, "--max-agents", 10),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                _wait_until_ready(child, f"http://127.0.0.1:{port}/readyz", Path(log.name))
                yield Serving(state, f"http://127.0.0.1:{port}")
            finally:
                child.send_signal(signal.SIGINT)
                assert child.wait(timeout=60) == 0


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if requests.get(url, timeout=20).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.05)
    raise AssertionError(log.read_text())


@pytest.fixture
def package(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A package whose agent is named after the test."""
    file = tmp_path / "package.zip"
    file.write_bytes(zip_package("stdlib_agent", name=agent_name(request)))
    return file


@pytest.fixture
def agent(server: Serving, package: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an agent that runs."""
    server.ok("push", package)
    yield agent_name(request)
    server.run("remove", agent_name(request))


def agent_name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name).removeprefix("test_")[:40].replace("_", "-").rstrip("-")


@pytest.fixture
def client(server: Serving) -> Iterator[Client]:
    with Client(server.url, server.token) as client:
        yield client


def test_push_shows_each_step_and_ends_with_an_address_that_answers(
    server: Serving, package: Path
) -> None:
    lines = server.ok("push", package).splitlines()
    steps = [line.split()[0] for line in lines if " done " in line]
    assert steps[0] == "upload"
    assert len(steps) > 4
    said = next(line for line in lines if " is running at http://" in line)
    url = said.split(" at ")[1].split()[0]
    assert requests.get(f"{url}/health", timeout=20).json() == {"status": "healthy"}
    server.ok("remove", said.split()[0])


def test_a_directory_is_pushed_without_what_its_author_leaves_out(
    server: Serving, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name, folder = agent_name(request), tmp_path / "agent"
    with zipfile.ZipFile(io.BytesIO(zip_package("stdlib_agent", name=name))) as archive:
        archive.extractall(folder)
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "old.log").touch()
    first, second = server.ok("push", folder), server.ok("push", folder)
    assert "left out .gitignore, old.log" in first.splitlines()[0]
    assert "installed already" in second  # the same bytes
    server.ok("remove", name)


def test_the_agent_that_init_makes_is_deployed_and_answers(
    server: Serving, tmp_path: Path, client: Client
) -> None:
    server_less = subprocess.run(
        command("init", tmp_path / "starter"), capture_output=True, text=True, check=True
    )
    assert f"push {tmp_path / 'starter'}" in server_less.stdout
    server.ok("push", tmp_path / "starter")
    url = client.agent("starter").url
    assert requests.get(f"{url}/?name=Ada", timeout=20).json() == {"answer": "Hello, Ada!"}
    assert "listening on" in server.ok("logs", "starter")
    server.ok("remove", "starter")


def test_machines_are_told_of_a_push_event_by_event(
    server: Serving, package: Path, request: pytest.FixtureRequest
) -> None:
    told = [json.loads(line) for line in server.ok("push", package, "--json").splitlines()]
    *steps, last = told
    assert {each["event"] for each in steps} == {"step"}
    names = list(dict.fromkeys(each["name"] for each in steps if each["outcome"] == "done"))
    assert names[:3] == ["upload", "validate", "unpack"]
    assert (last["event"], last["deployment"]["status"]) == ("succeeded", "succeeded")
    assert last["connection"]["url"].startswith("http://")
    server.ok("remove", agent_name(request))


def test_machines_are_told_why_a_push_failed(server: Serving, tmp_path: Path) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(zip_package("missing_module", name="broken-for-machines"))
    done = server.run("push", broken, "--json")
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, done.stderr, last["event"]) == (1, "", "failed")
    assert "seaweed_that_nobody_installed" in last["problem"]["cause"]


def test_pushing_what_runs_already_says_so_and_deploys_nothing(
    server: Serving, package: Path, agent: str
) -> None:
    said = server.ok("push", package)
    assert "installed already" in said
    assert len(server.json("releases", agent)["releases"]) == 1  # type: ignore[arg-type]  # a list


def test_a_stopped_agent_is_only_started_by_a_push_of_its_package(
    server: Serving, package: Path, agent: str
) -> None:
    server.ok("stop", agent)
    assert "is running at" in server.ok("push", package)


def test_a_package_can_be_installed_without_a_start(
    server: Serving, package: Path, request: pytest.FixtureRequest
) -> None:
    name = agent_name(request)
    assert f"atoll-deployer start {name}" in server.ok("push", "--no-start", package)
    assert server.json("status", name)["pid"] is None
    server.ok("remove", name)


def test_an_agent_that_dies_at_its_start_ends_push_with_the_cause(
    server: Serving, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.zip"
    broken.write_bytes(zip_package("missing_module"))
    done = server.run("push", broken)
    assert done.returncode == 1
    first, *others = done.stderr.splitlines()
    assert first.startswith("cannot ")
    assert "seaweed_that_nobody_installed" in done.stderr
    assert any(line.startswith("  | ") for line in others)
    assert any(line.startswith("hint: ") for line in others)
    assert first.endswith(" s)")
    assert "the last lines of its log:" in others


def test_every_problem_of_a_package_that_is_refused_is_listed(
    server: Serving, tmp_path: Path
) -> None:
    file = tmp_path / "a.zip"
    manifest = '[agent]\nname = "../x"\n[deployment]\nport = -1\n'
    extra = {"agent.toml": manifest, "requirements.txt": "-r other.txt\n"}
    file.write_bytes(zip_package("stdlib_agent", extra_files=extra))
    done = server.run("push", file)
    assert done.returncode == 1
    for place in ("agent.name", "deployment.port", "requirements.txt:1"):
        assert place in done.stderr


def test_list_shows_the_agent_to_people_and_machines(server: Serving, agent: str) -> None:
    titles, *rows = server.ok("list").splitlines()
    assert titles.split()[:2] == ["NAME", "STATUS"]
    assert any(row.split()[:2] == [agent, "running"] for row in rows)
    found = server.json("list")["agents"]
    assert [each["name"] for each in found] == [agent]  # type: ignore[attr-defined]  # a list


def test_status_tells_where_the_agent_is(server: Serving, agent: str, client: Client) -> None:
    known = client.agent(agent)
    pairs = dict(line.split(maxsplit=1) for line in server.ok("status", agent).splitlines())
    assert (pairs["status"], pairs["url"], pairs["pid"]) == ("running", known.url, str(known.pid))


def test_show_tells_what_the_author_wrote(server: Serving, agent: str) -> None:
    pairs = dict(line.split(maxsplit=1) for line in server.ok("show", agent).splitlines())
    document = json.loads(server.ok("show", agent, "--json"))
    assert pairs["agent.name"] == document["manifest"]["agent"]["name"] == agent
    assert document["status"] == pairs["status"] == "running"


def test_show_tells_another_agent_how_to_reach_it(
    server: Serving, agent: str, client: Client
) -> None:
    assert server.ok("show", agent).splitlines()[0].split() == ["name", agent]
    table = tomllib.loads(server.ok("show", agent, "--sub-agent"))["sub_agents"][agent]
    assert table == {"url": client.agent(agent).url, "health_check_interval": 30}


def test_stop_start_and_restart_do_as_they_say(server: Serving, agent: str, client: Client) -> None:
    first = client.agent(agent).pid
    assert f"{agent} is stopped" in server.ok("stop", agent)
    assert f"{agent} is running at http://" in server.ok("start", agent)
    second = client.agent(agent).pid
    assert f"{agent} is running at http://" in server.ok("restart", agent)
    assert len({first, second, client.agent(agent).pid}) == 3


def test_kill_ends_the_process(server: Serving, agent: str, client: Client) -> None:
    before = client.agent(agent).pid
    server.ok("kill", agent)
    assert client.agent(agent).pid != before


def test_wait_ends_with_the_status_that_was_waited_for(server: Serving, agent: str) -> None:
    assert f"{agent} is running" in server.ok("wait", agent)


def test_wait_fails_when_the_status_does_not_come(server: Serving, agent: str) -> None:
    done = server.run("wait", agent, "--status", "stopped", "--timeout", "1")
    assert done.returncode == 1
    assert "running" in done.stderr


def test_rollback_puts_the_release_before_live_again(
    server: Serving, agent: str, tmp_path: Path, client: Client
) -> None:
    newer = tmp_path / "newer.zip"
    newer.write_bytes(zip_package("stdlib_agent", name=agent, version="2.0.0"))
    server.ok("push", newer)
    assert client.agent(agent).version == "2.0.0"
    assert "is running at" in server.ok("rollback", agent)
    assert client.agent(agent).version == "1.0.0"
    places = [line.split()[2] for line in server.ok("releases", agent).splitlines()[1:]]
    assert "current" in places


def test_logs_print_what_the_agent_said(server: Serving, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(
        zip_package("stdlib_agent", name="talks", replace={"serving.serve(answer)": TALK})
    )
    server.ok("push", file)
    try:
        assert "one\ntwo\n" in server.ok("logs", "talks")
        assert server.ok("logs", "talks", "--tail", "1") == "two\n"
        following = client.follow_logs("talks", tail=2)
        assert [next(following), next(following)] == ["one", "two"]
    finally:
        server.ok("remove", "talks")


TALK = 'print("one\\ntwo", flush=True)\nserving.serve(answer)'


@contextlib.contextmanager
def running(*argv: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command while the block runs; one that would go on for ever ends with it."""
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def test_ctrl_c_ends_following_a_log_without_a_word(server: Serving, agent: str) -> None:
    with running(*command("logs", agent, "-f"), "--state-dir", str(server.state)) as child:
        wait_until(psutil.Process(child.pid).net_connections)  # it has asked, and prints nothing
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=10)
    assert child.returncode == 130
    assert told.strip() == ""


def test_logs_of_several_agents_carry_their_names_and_end_with_the_agents(
    server: Serving, client: Client
) -> None:
    names = ("talks", "talks-too")
    for name in names:
        replace = {"serving.serve(answer)": TALK}
        client.deploy(zip_package("stdlib_agent", name=name, replace=replace))
    printed = server.ok("logs", *names)
    assert sorted(printed.splitlines()) == [
        "talks     | one",
        "talks     | two",
        "talks-too | one",
        "talks-too | two",
    ]
    with running(*command("logs", *names, "-f"), "--state-dir", str(server.state)) as child:
        assert child.stdout is not None
        heard = [child.stdout.readline() for _ in range(4)]
        for name in names:
            client.remove(name)
        assert child.wait(20) == 0
    assert sorted(line.strip() for line in heard) == sorted(printed.splitlines())


def test_events_are_printed_as_they_happen(server: Serving, agent: str, client: Client) -> None:
    argv = [*command("events", "-f", "--agent", agent, "--limit", "1", "--json")]
    with running(*argv, "--state-dir", str(server.state)) as child:
        assert child.stdout is not None
        last = json.loads(child.stdout.readline())
        client.stop(agent)
        first = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    assert (last["kind"], first["kind"]) == ("deployment.succeeded", "agent.stopped")


def test_why_says_of_a_good_agent_that_nothing_is_wrong(server: Serving, agent: str) -> None:
    assert "nothing is known to be wrong" in server.ok("why", agent)


def test_ports_and_events_tell_of_the_agent(server: Serving, agent: str, client: Client) -> None:
    assert f"{client.agent(agent).port}  {agent}" in server.ok("ports")
    assert f"  {agent}  " in server.ok("events", "--agent", agent)


def test_logs_of_all_agents_are_one_object_for_machines(server: Serving, agent: str) -> None:
    found = server.json("logs")["logs"]
    assert [each["agent"] for each in found] == [agent]  # type: ignore[attr-defined]  # a list
    assert server.json("logs", agent)["agent"] == agent


def test_followed_logs_go_on_over_a_restart_and_a_release(
    server: Serving, client: Client, request: pytest.FixtureRequest
) -> None:
    name, said = agent_name(request), {"serving.serve(answer)": TALK}
    client.deploy(zip_package("stdlib_agent", name=name, replace=said))
    argv = [*command("logs", name, "-f", "--json", "--tail", 1), "--state-dir", str(server.state)]
    with running(*argv) as child:
        assert child.stdout is not None
        told = [json.loads(child.stdout.readline())]
        client.restart(name)
        told += [json.loads(child.stdout.readline()) for _ in range(2)]
        client.deploy(zip_package("stdlib_agent", name=name, replace=said, version="2"))
        while told[-1]["event"] != "note":
            told.append(json.loads(child.stdout.readline()))
        told += [json.loads(child.stdout.readline()) for _ in range(2)]
        client.remove(name)
        assert child.wait(20) == 0
    assert [each.get("line") for each in told] == ["two", "one", "two", None, "one", "two"]
    assert told[3]["note"] == "release 2 goes on"


def test_open_prints_the_address_of_an_agent_and_of_the_server(
    server: Serving, agent: str, client: Client
) -> None:
    assert server.ok("open", agent) == f"{client.agent(agent).url}\n"
    assert server.json("open") == {"url": server.url}
    client.stop(agent)
    done = server.run("open", agent)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"atoll-deployer start {agent}" in done.stderr


def test_what_was_done_is_told_with_the_time_that_it_took(server: Serving, agent: str) -> None:
    for act, status in (("stop", "stopped"), ("start", "running"), ("kill", "")):
        said = server.ok(act, agent)
        assert said.startswith(f"{agent} is {status}"), said
        assert said.endswith(" s)\n"), said


def test_bash_completes_the_names_of_agents(server: Serving, agent: str, tmp_path: Path) -> None:
    program = tmp_path / "atoll-deployer"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m deployer.cli "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(atoll-deployer completion bash)"
        complete_line() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _atoll_deployer_completion atoll-deployer
            echo "${COMPREPLY[*]}"
        }
        complete_line atoll-deployer status ""
        complete_line atoll-deployer logs -f "$AGENT" ""
        complete_line atoll-deployer events --agent "${AGENT:0:5}"
        complete_line atoll-deployer restar
        complete_line atoll-deployer status --server http://127.0.0.1:1 ""
    """
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "AGENT": agent}
    environ["ATOLL_DEPLOYER_STATE_DIR"] = str(server.state)
    argv = ["bash", "--norc", "-c", script]

    def completed() -> list[str]:
        pipe = subprocess.PIPE
        done = subprocess.run(argv, env=environ, stdout=pipe, stderr=pipe, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.splitlines()

    # on a loaded machine the server may take longer than somebody at a keyboard would wait
    expected = [agent, "", agent, "restart", ""]
    wait_until(lambda: completed() == expected, 60.0, "completed")


def test_a_key_that_may_only_look_is_refused_with_4(
    server: Serving, agent: str, client: Client
) -> None:
    key = client.create_key("looks").key
    assert server.run("status", agent, "--token", key).returncode == 0
    done = server.run("stop", agent, "--token", key, "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["code"] == "scope-missing"


def test_a_removed_agent_is_unknown(server: Serving, agent: str, client: Client) -> None:
    server.ok("remove", agent)
    with pytest.raises(AgentUnknownError):
        client.agent(agent)
    assert server.run("status", agent).returncode == 1


def test_a_wrong_token_is_refused_with_4(server: Serving) -> None:
    done = server.run("list", "--token", "wrong")
    assert done.returncode == 4
    assert done.stderr.startswith("cannot ")


def test_a_terminal_is_shown_marks_and_no_escape_codes_of_agents(
    server: Serving, package: Path, agent: str
) -> None:
    text = at_a_terminal(command("push", package, "--force", "--state-dir", server.state))
    assert "✓" in text
    assert f"{agent} release 2 is running at" in text


def at_a_terminal(argv: list[str]) -> str:
    """Run a command on a pseudo-terminal and give all that it showed."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"}
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # how Linux says that the other end was closed
    finally:
        os.close(ours)
    assert child.wait(timeout=COMMAND_SECONDS) == 0, shown.decode()
    return shown.decode()


def test_a_server_does_not_start_on_a_taken_port(server: Serving, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    base = free_ports(10)
    options = ("--state-dir", tmp_path / "s", "--api-port", port, "--agent-base-port", base)
    done = subprocess.run(
        command("serve", *options, "--max-agents", 10),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert port in done.stderr


# The client, where the command line does not reach ------------------------------------------------


def test_the_client_tells_of_the_server(client: Client) -> None:
    assert client.health().status == "healthy"
    assert client.server()["max_agents"] == 10


def test_the_client_deploys_bytes_and_tells_each_step(
    client: Client, request: pytest.FixtureRequest
) -> None:
    name, told = agent_name(request), list[Step]()
    package = zip_package("stdlib_agent", name=name)
    deployed = client.deploy(package, on_progress=told.append)
    assert deployed.connection is not None
    assert deployed.deployment is not None
    assert client.has_package(deployed.deployment.sha256)
    ended = [each.name for each in told if each.outcome == "done"]
    assert ended == ["upload", *(each.name for each in deployed.deployment.steps)]
    assert client.deployments(agent=name)[0].id == deployed.deployment.id
    client.remove(name)


def test_a_deployment_that_failed_is_attached_to_its_error(client: Client) -> None:
    with pytest.raises(DeployerError) as caught:
        client.deploy(zip_package("missing_module", name="failed-one"))
    deployment = deployment_of(caught.value)
    assert deployment is not None
    assert deployment.agent == "failed-one"
    assert deployment.steps[-1].outcome == "failed"
    assert caught.value.evidence
