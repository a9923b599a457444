"""Secrets: set through every face, given to agents, and to be found nowhere else."""

from __future__ import annotations

import secrets as random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from click.testing import CliRunner, Result

from deployer.cli import main
from deployer.client import Client
from deployer.errors import DeployerError, SecretUnavailableError, SecretUnknownError
from tests.contracts import ZIP as ZIP_TYPE
from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server, wait_until

TOKEN = f"tok-{random.token_hex(16)}"
PASSWORD = f"pass'\"w\\{random.token_hex(8)}\nsecond-{random.token_hex(8)}"
TRACES = [TOKEN[4:], PASSWORD[-16:], PASSWORD.split("\n", maxsplit=1)[0][-16:]]
"""What must be found nowhere: parts that look alike in every notation."""


class Recorder(Api):
    """An API whose every answer is kept, status line and headers too."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(server, Contract(server.request("GET", "/openapi.json").json()))
        self.answers: list[str] = []

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        answer = super().request(method, path, **options)
        said = f"{method} {path}: {answer.status_code} {answer.reason} {answer.headers}"
        self.answers.append(f"{said} {answer.text}")
        return answer


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    root = tmp_path_factory.mktemp("x") / "state"
    with running_server(root, cache_dir=installer_cache) as it:
        yield it


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Recorder:
    return Recorder(server)


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    """A client; agents and secrets that a test leaves are removed."""
    client = server.client
    yield client
    for agent in client.agents():
        client.remove(agent.name)
    for secret in client.secrets():
        client.remove_secret(secret.name)


def package(name: str, variables: str = "", **how: Any) -> bytes:
    """Zip the test's agent with a manifest that has these variables."""
    manifest = (
        f'[agent]\nname = "{name}"\nversion = "1.0.0"\n[health]\n'
        f'[deployment]\nstrategy = "replace"\n[env]\n{variables}'
    )
    return zip_package("stdlib_agent", extra_files={"agent.toml": manifest}, **how)


def variables_of(client: Client, name: str) -> dict[str, str]:
    """Ask an agent for the variables that it was given."""
    url = client.agent(name).url
    given: dict[str, str] = requests.get(f"{url}/info", timeout=10).json()["variables"]
    return given


def with_secrets(client: Client) -> None:
    client.set_secret("token", TOKEN)
    client.set_secret("password", PASSWORD)


def run(server: RunningServer, *arguments: str, typed: str = "") -> Result:
    options = ["--state-dir", str(server.state.root)]
    return CliRunner().invoke(main, [*arguments, *options], input=typed)


# Given to agents --------------------------------------------------------------------------------


def test_an_agent_finds_its_secrets_in_its_variables(client: Client) -> None:
    with_secrets(client)
    client.deploy(
        package(
            "given",
            'TOKEN = "${secret:token}"\nURL = "x:${secret:password}@y"\n'
            'PLAIN = "$${secret:token} ${HOME}"\n',
        )
    )
    found = variables_of(client, "given")
    assert found["TOKEN"] == TOKEN
    assert found["URL"] == f"x:{PASSWORD}@y"
    assert found["PLAIN"] == "${secret:token} ${HOME}"


def test_a_changed_secret_is_given_at_the_next_start(client: Client) -> None:
    client.set_secret("token", "older")
    client.deploy(package("changing", 'TOKEN = "${secret:token}"\n'))
    assert client.agent("changing").secrets_changed is False
    client.set_secret("token", "newer")
    assert client.agent("changing").secrets_changed is True
    assert client.why("changing").secrets_changed is True
    assert [each.secrets_changed for each in client.agents()] == [True]
    assert variables_of(client, "changing")["TOKEN"] == "older"
    client.restart("changing")
    assert variables_of(client, "changing")["TOKEN"] == "newer"
    assert client.agent("changing").secrets_changed is False


def test_missing_secrets_fail_a_deployment_before_the_old_release_is_stopped(
    client: Client,
) -> None:
    client.deploy(package("serving"))
    before = client.agent("serving")
    wanting = package("serving", 'A = "${secret:one}"\nB = "${secret:two}"\n')
    plan = client.plan("serving", wanting)
    with pytest.raises(SecretUnavailableError) as caught:
        client.deploy(wanting, strategy="replace")
    for name in ("one", "two"):
        assert f"secret {name} is not there" in str(caught.value)
        assert any(f"secret {name} is not there" in each for each in plan.missing_secrets)
    assert client.agent("serving").pid == before.pid
    steps = [each.name for each in client.deployments(agent="serving")[0].steps]
    assert steps == ["validate"]


def test_an_agent_whose_secret_is_gone_is_not_stopped_by_a_restart(client: Client) -> None:
    client.set_secret("token", TOKEN)
    client.deploy(package("bereft", 'TOKEN = "${secret:token}"\n'))
    pid = client.agent("bereft").pid
    client.remove_secret("token")
    with pytest.raises(SecretUnavailableError):
        client.restart("bereft")
    assert client.wait("bereft").pid == pid
    client.stop("bereft")
    with pytest.raises(SecretUnavailableError):
        client.start("bereft")
    assert "secret token is not there" in client.agent("bereft").last_error


def test_a_release_whose_secret_is_gone_is_not_gone_back_to(client: Client) -> None:
    client.set_secret("token", TOKEN)
    client.deploy(package("going-back", 'TOKEN = "${secret:token}"\n'))
    client.deploy(package("going-back"))
    pid = client.agent("going-back").pid
    assert client.releases("going-back")[1].rollback_ready is True
    client.remove_secret("token")
    assert "secret token is not there" in str(client.releases("going-back")[1].rollback_ready)
    with pytest.raises(SecretUnavailableError):
        client.rollback("going-back")
    assert client.agent("going-back").pid == pid


def test_an_agent_is_not_given_what_is_for_others(client: Client) -> None:
    client.set_secret("token", TOKEN, agents=["billing-*"])
    variables = 'TOKEN = "${secret:token}"\n'
    with pytest.raises(SecretUnavailableError, match="is for billing-\\*, not for curious"):
        client.deploy(package("curious", variables))
    client.deploy(package("billing-mail", variables))
    assert variables_of(client, "billing-mail")["TOKEN"] == TOKEN


# Found nowhere else -----------------------------------------------------------------------------


def ask_for_everything(api: Recorder, name: str) -> None:
    """Read every answer that tells of an agent, or of the server."""
    agent = f"/v1/agents/{name}"
    for path in (
        *("/readyz", "/metrics", "/v1/server", "/v1/ports", "/v1/agents", "/v1/secrets", "/agents"),
        *("/v1/deployments", agent, f"{agent}/why", f"{agent}/releases", f"{agent}/releases/1"),
        *(f"{agent}/logs?stream={stream}" for stream in ("stdout", "stderr", "install")),
        *(f"/status/{name}", f"/agents/{name}/diagnostics", "/v1/events?limit=1000"),
    ):
        api.get(path)
    for deployment in api.get("/v1/deployments").json()["deployments"]:
        api.get(f"/v1/deployments/{deployment['id']}")
        api.get(f"/v1/packages/{deployment['package']}")
    assert api.get("/supervisor/", headers={"Accept": "text/html"}).status_code == 200
    page = api.get("/supervisor/tail.html", params={"processname": f"{name}--1", "limit": 500})
    assert page.headers["Location"] == f"/supervisor/logtail/{name}--1"
    url = f"{api.server.url}{page.headers['Location']}"
    headers = {"Authorization": f"Bearer {api.server.token}"}
    with requests.get(url, headers=headers, stream=True, timeout=10) as log:
        shown = log.iter_content(chunk_size=None)
        api.answers += [next(shown).decode(), next(shown).decode()]
    assert "[secret token]" in api.answers[-1]


def files_with(root: Path, text: str) -> set[Path]:
    return {
        path.relative_to(root)
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes()
    }


def test_what_an_agent_tells_of_its_secrets_is_found_in_its_policy_and_raw_log_only(
    client: Client, server: RunningServer, api: Recorder
) -> None:
    for name, value in (("token", TOKEN), ("password", PASSWORD)):
        api.request("PUT", f"/v1/secrets/{name}", json={"value": value})
    crashing = zip_package("tells_secrets", replace={"later": "now"})
    refused = api.post("/v1/deployments", data=crashing, headers=ZIP_TYPE, params={"wait": 60})
    cause = problem(refused, 422, "agent-not-healthy")["cause"]
    assert "cannot log in with [secret token]" in cause
    with pytest.raises(DeployerError) as caught:
        client.deploy(crashing)
    raised = f"{caught.value!r} {caught.value.evidence} {caught.value.document}"

    api.deploy(zip_package("tells_secrets"))
    name = "tells_secrets"
    agent = client.agent(name)
    given = requests.get(f"{agent.url}/", timeout=10).json()["variables"]
    assert given["TOKEN"] == TOKEN
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{agent.url}/crash", timeout=10)
    wait_until(lambda: client.agent(name).pid not in {None, agent.pid}, what="restarted")
    wait_until(
        lambda: any(each.kind == "process.died" for each in client.events(agent=name)),
        what="its death told",
    )
    ask_for_everything(api, name)
    plan = {"package": client.deployments(agent=name)[0].package}
    api.post(f"/v1/agents/{name}/plan", json=plan)
    api.request("PUT", "/v1/secrets/token", json={"value": TOKEN, "agents": ["["]})
    api.request("PUT", "/v1/secrets/token", json={"value": [TOKEN]})
    api.request("PUT", "/v1/secrets/token", data=f'{{"value": "{TOKEN}')
    assert server.process is not None
    commands = [each.cmdline() for each in psutil.Process(server.process.pid).children()]
    shown = "\n".join([*api.answers, raised, str(commands)])

    assert "[secret token]" in shown, "nothing was told, so nothing was hidden"
    assert "[secret password]" in shown
    log = {Path(f"logs/{name}--1.{stream}.log") for stream in ("stdout", "stderr")}
    policy = Path(f"policies/{name}--1")
    for trace in TRACES:
        assert trace not in shown
        found = files_with(server.state.root, trace)
        assert found <= {policy, *log}, f"{trace} is found in {found}"
        assert policy in found
    assert (server.state.root / policy).stat().st_mode & 0o777 == 0o600


def test_the_policy_goes_with_the_agent(client: Client, server: RunningServer) -> None:
    with_secrets(client)
    client.deploy(package("leaving", 'TOKEN = "${secret:token}"\n'))
    client.stop("leaving")
    assert files_with(server.state.policies, TOKEN), "a start through supervisorctl needs it"
    client.remove("leaving")
    assert not files_with(server.state.root, TOKEN)


def test_the_copy_of_the_database_knows_what_was_set_last(
    client: Client, server: RunningServer
) -> None:
    client.set_secret("latest", TOKEN)
    assert b"latest" in server.state.database_copy.read_bytes()
    client.remove_secret("latest")
    assert client.secrets() == []


# Faces ------------------------------------------------------------------------------------------


def test_a_secret_is_listed_by_name_and_never_shown(api: Recorder, client: Client) -> None:
    made = api.request("PUT", "/v1/secrets/shown", json={"value": TOKEN, "agents": ["a-*"]})
    again = api.request("PUT", "/v1/secrets/shown", json={"value": TOKEN})
    assert (made.status_code, again.status_code) == (201, 200)
    assert [each.name for each in client.secrets()] == ["shown"]
    page = api.get("/v1/secrets?limit=1&cursor=A").json()
    assert ([each["name"] for each in page["secrets"]], page["next"]) == (["shown"], None)
    assert api.get("/v1/secrets?cursor=shown").json()["secrets"] == []
    assert api.get("/v1/secrets/shown").status_code == 405
    assert api.request("DELETE", "/v1/secrets/shown").status_code == 204
    problem(api.request("DELETE", "/v1/secrets/shown"), 404, "secret-unknown")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"value": ""},
        {"value": 5},
        {"value": "a\0b"},
        {"value": "\x1b[0m"},
        {"value": "x" * 65537},
        {"value": "é" * 32769},
        {"value": "ok", "agents": []},
        {"value": "ok", "agents": ["a/b"]},
        {"value": "ok", "more": 1},
    ],
)
def test_what_cannot_be_a_secret_is_refused(api: Recorder, body: dict[str, object]) -> None:
    problem(api.request("PUT", "/v1/secrets/bad", json=body), 422, "request-invalid")


@pytest.mark.parametrize("name", ["1st", "a b", "a" * 64, "%00", "é"])
def test_what_cannot_be_a_secret_s_name_is_refused(server: RunningServer, name: str) -> None:
    answer = server.request("PUT", f"/v1/secrets/{name}", json={"value": "ok"})
    problem(answer, 422, "request-invalid")


def test_a_secret_is_set_from_standard_input(client: Client, server: RunningServer) -> None:
    options = ["--agent", "b-*", "--state-dir", str(server.state.root)]
    done = subprocess.run(
        [sys.executable, "-m", "deployer.cli", "secrets", "set", "typed", *options],
        input=f"{PASSWORD}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "typed is set, for b-*\n"
    client.set_secret("token", TOKEN)
    client.deploy(package("b-1", 'PASSWORD = "${secret:typed}"\n'))
    assert variables_of(client, "b-1")["PASSWORD"] == PASSWORD


def test_secrets_are_listed_and_removed_on_the_command_line(
    client: Client, server: RunningServer
) -> None:
    client.set_secret("listed", TOKEN)
    assert "listed" in run(server, "secrets", "list").output
    assert run(server, "secrets", "remove", "listed").exit_code == 0
    assert "no secrets" in run(server, "secrets", "list").output
    assert run(server, "secrets", "remove", "listed").exit_code == 1


def test_a_name_that_is_no_secret_s_is_not_even_asked_for(client: Client) -> None:
    with pytest.raises(SecretUnknownError):
        client.remove_secret("../agents/x")
