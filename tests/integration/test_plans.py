"""Plans: what they say is what a deployment then does, and saying it changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from deployer.cli import main
from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server
from tests.wheels import make_index, make_wheel

NAME = "planned"
PATH = f"/v1/agents/{NAME}/plan"
ROWS = ("agents", "releases", "leases", "deployments", "packages", "events")


def package(version: str, *requirements: str, **how: Any) -> bytes:
    extra = {"requirements.txt": "\n".join(requirements)} if requirements else None
    how = {"name": NAME, **how}
    return zip_package("stdlib_agent", version=version, extra_files=extra, **how)


ONE = package("1.0.0", "alpha==1.0", "beta==1.0")
TWO = package("2.0.0", "alpha==2.0", "gamma==1.0", "beta==1.0")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose only dependencies lie in a folder; its own cache begins empty."""
    root = tmp_path_factory.mktemp("p")
    for name, version in (("alpha", "1.0"), ("alpha", "2.0"), ("beta", "1.0"), ("gamma", "1.0")):
        make_wheel(root / "wheels", name, version)
    with running_server(
        root / "state",
        index_url=f"file://{make_index(root / 'index', [])}/simple",
        find_links=[str(root / "wheels")],
    ) as it:
        yield it


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Api:
    return Api(server, Contract(server.request("GET", "/openapi.json").json()))


@pytest.fixture(scope="module", autouse=True)
def _one_runs(api: Api) -> None:
    api.deploy(ONE)
    api.upload(TWO)


@dataclass(frozen=True)
class World:
    """Everything that a plan must leave as it is."""

    rows: dict[str, list[Any]]
    files: dict[str, tuple[int, int]]
    pid: int | None

    @classmethod
    def of(cls, server: RunningServer) -> World:
        state = server.state
        with sqlite3.connect(f"file:{state.database}?mode=ro", uri=True) as connection:
            rows = {each: connection.execute(f"SELECT * FROM {each}").fetchall() for each in ROWS}  # noqa: S608 - names of our own
        connection.close()
        places = (state.agents, state.conf_d, state.policies, state.packages, state.tmp)
        files = {
            str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
            for place in places
            for path in (place, *place.rglob("*"))
            if "__pycache__" not in path.parts and path != state.tmp
        }
        return cls(rows, files, server.client.agent(NAME).pid)


def plan(api: Api, data: bytes, **options: Any) -> dict[str, Any]:
    md5 = api.upload(data)["md5"]
    answer = api.post(PATH, json={"package": md5, **options})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def steps_of(document: dict[str, Any]) -> list[str]:
    return [each["name"] for each in document["steps"]]


def test_a_plan_names_each_difference_of_the_dependencies(api: Api) -> None:
    document = plan(api, TWO)
    assert document["dependencies"] == {
        "lock_reused": False,
        "added": ["gamma==1.0"],
        "removed": [],
        "changed": [{"name": "alpha", "before": "1.0", "after": "2.0"}],
        "unchanged": 1,
        "cached": True,
        "environment_reused": False,
    }
    fewer = plan(api, package("2.1.0", "beta==1.0"))["dependencies"]
    assert (fewer["removed"], fewer["unchanged"]) == (["alpha==1.0"], 1)


def test_a_plan_says_what_becomes_of_port_process_and_disk(api: Api) -> None:
    agent = api.get(f"/v1/agents/{NAME}").json()
    document = plan(api, TWO)
    assert (document["agent"], document["release"]) == (NAME, agent["release"])
    assert (document["version"], document["strategy"]) == ("2.0.0", "rehearse")
    assert document["port"] == {"number": agent["port"], "kept": True}
    assert document["restarts"] is True
    assert document["python"]["changed"] is False
    disk = document["disk"]
    assert disk["code_bytes"] > 0
    assert disk["environment_bytes"] > 0
    assert disk["free_bytes"] > disk["code_bytes"]


def test_a_plan_changes_nothing(api: Api, server: RunningServer) -> None:
    md5 = api.upload(package("2.2.0", "alpha==2.0"))["md5"]
    before = World.of(server)
    assert api.post(PATH, json={"package": md5}).status_code == 200
    assert World.of(server) == before
    assert list(server.state.tmp.iterdir()) == []


def test_a_second_release_beside_the_first_gets_another_port(api: Api) -> None:
    port = api.get(f"/v1/agents/{NAME}").json()["port"]
    document = plan(api, TWO, strategy="parallel")
    assert document["port"]["kept"] is False
    assert document["port"]["number"] != port
    assert document["restarts"] is True


def test_an_equal_set_of_requirements_repeats_the_lock(api: Api) -> None:
    dependencies = plan(api, package("1.1.0", "alpha==1.0", "beta==1.0"))["dependencies"]
    assert (dependencies["lock_reused"], dependencies["unchanged"]) == (True, 2)
    assert dependencies["added"] == dependencies["changed"] == []


def test_an_environment_that_is_there_takes_no_more_of_the_disk(api: Api) -> None:
    document = plan(api, package("1.1.0", "alpha==1.0", "beta==1.0"))
    assert document["dependencies"]["environment_reused"] is True
    assert document["dependencies"]["cached"] is True
    assert document["disk"]["environment_bytes"] == 0


def test_the_package_that_is_live_needs_nothing(api: Api) -> None:
    document = plan(api, ONE)
    assert (document["steps"], document["restarts"]) == ([], False)
    assert document["port"]["kept"] is True
    assert (document["dependencies"]["unchanged"], document["disk"]["code_bytes"]) == (2, 0)


def test_everything_of_a_first_deployment_is_added(api: Api) -> None:
    md5 = api.upload(package("1.0.0", "alpha==1.0", name="firstborn"))["md5"]
    document = api.post("/v1/agents/firstborn/plan", json={"package": md5}).json()
    assert (document["release"], document["restarts"]) == (None, False)
    assert document["dependencies"]["added"] == ["alpha==1.0"]
    assert document["disk"]["environment_bytes"] is None
    assert document["port"]["kept"] is False
    problem(api.get("/v1/agents/firstborn"), 404, "agent-unknown")


def test_a_package_of_another_agent_is_no_plan_for_this_one(api: Api) -> None:
    md5 = api.upload(package("1.0.0", name="stranger"))["md5"]
    document = problem(api.post(PATH, json={"package": md5}), 422, "request-invalid")
    assert "stranger" in document["detail"]
    problem(api.post("/v1/agents/nobody/plan", json={"package": md5}), 404, "agent-unknown")


def test_what_cannot_be_planned_is_told(api: Api) -> None:
    problem(api.post(PATH, json={"package": "0" * 32}), 404, "package-unknown")
    problem(api.post(PATH, json={"package": "x"}), 422, "request-invalid")
    problem(api.post(PATH, json={"package": "0" * 32, "start": True}), 422, "request-invalid")
    md5 = api.upload(package("6.6.6", "delta==1.0"))["md5"]
    document = problem(api.post(PATH, json={"package": md5}), 422, "unresolvable")
    assert "delta" in document["detail"]
    md5 = api.upload(TWO)["md5"]
    answer = api.post(PATH, json={"package": md5, "strategy": "hope"})
    assert answer.json()["code"] == "strategy-unsupported"


def test_the_command_uploads_and_tells_in_a_few_lines(
    server: RunningServer, tmp_path: Path
) -> None:
    archive = tmp_path / "new.zip"
    archive.write_bytes(package("7.0.0", "alpha==2.0"))
    words = ["plan", NAME, str(archive), "--server", server.url, "--token", server.token]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "alpha 1.0 -> 2.0" in result.output
    assert "beta==1.0" in result.output
    assert '"restarts": true' in CliRunner().invoke(main, [*words, "--json"]).output


@pytest.mark.parametrize("strategy", ["rehearse", "replace", "parallel"])
def test_a_deployment_takes_the_steps_that_were_planned(api: Api, strategy: str) -> None:
    data = package(
        f"8.{strategy}",
        replace={"[health]": "[deployment]\nmin_healthy_seconds = 0.1\n[health]"},
    )
    document = plan(api, data, strategy=strategy)
    deployment = api.deploy(data, strategy=strategy)
    assert document["steps"] == steps_of(deployment)
    assert document["port"]["number"] == deployment["connection"]["port"]


def test_a_first_deployment_takes_the_steps_that_were_planned(api: Api) -> None:
    data = package("1.0.0", name="firstling")
    md5 = api.upload(data)["md5"]
    document = api.post("/v1/agents/firstling/plan", json={"package": md5}).json()
    deployment = api.deploy(data)
    assert document["steps"] == steps_of(deployment)
    assert document["port"]["number"] == deployment["connection"]["port"]
