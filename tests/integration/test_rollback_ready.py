"""Whether a release can be gone back to: looked at, not hoped, and looked at again before it is."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.contracts import Api, Contract, problem
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME = "returnable"
PATH = f"/v1/agents/{NAME}"


@pytest.fixture
def api(server: RunningServer, contract: Contract) -> Api:
    """The API of a server where release 2 of an agent runs, and release 1 did."""
    api = Api(server, contract)
    api.deploy(zip_package("stdlib_agent", name=NAME, version="1.0.0"))
    api.deploy(zip_package("stdlib_agent", name=NAME, version="2.0.0"))
    return api


def ready(api: Api, number: int) -> object:
    one = api.get(f"{PATH}/releases/{number}").json()
    listed = api.get(f"{PATH}/releases").json()["releases"]
    assert one in listed
    return one["rollback_ready"]


def first(api: Api) -> Path:
    return api.server.state.release(NAME, 1)


def test_releases_that_ran_are_ready_to_be_gone_back_to(api: Api) -> None:
    assert (ready(api, 1), ready(api, 2)) == (True, True)
    answer = api.post(f"{PATH}/rollback", params={"wait": 60})
    assert answer.status_code == 200
    verify = answer.json()["steps"][0]
    assert (verify["name"], verify["message"]) == ("verify", "release 1 is as it was installed")
    assert (ready(api, 1), ready(api, 2)) == (True, True)


def change_code(release: Path) -> None:
    (release / "code" / "main.py").write_text("print('something else')\n")


def delete_python(release: Path) -> None:
    (release / "venv" / "bin" / "python").unlink()


def lose_the_interpreter(release: Path) -> None:
    delete_python(release)
    (release / "venv" / "bin" / "python").symlink_to("/nowhere/python")


def delete_the_seal(release: Path) -> None:
    (release / "seal.json").unlink()


def delete_everything(release: Path) -> None:
    shutil.rmtree(release)


def spoil_the_entry_point(release: Path) -> None:
    with contextlib.closing(sqlite3.connect(release.parents[3] / "state.db")) as rows, rows:
        rows.execute(
            "UPDATE releases SET entry_point = 'module a' || char(0) || 'b' WHERE number = 1"
        )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (spoil_the_entry_point, "NUL character in argument"),
        (change_code, "a file was changed since it was installed"),
        (delete_the_seal, "its seal is missing"),
        (delete_everything, "its code is missing"),
    ],
)
def test_a_damaged_release_says_so_and_is_not_gone_back_to(
    api: Api, damage: Callable[[Path], None], words: str
) -> None:
    before = api.get(PATH).json()
    damage(first(api))
    reason = ready(api, 1)
    assert isinstance(reason, str)
    assert reason.startswith(words)
    assert ready(api, 2) is True
    answer = api.post(f"{PATH}/rollback", params={"wait": 60})
    document = problem(answer, 409, "release-damaged")
    assert reason in document["detail"]
    steps = [(each["name"], each["outcome"]) for each in document["deployment"]["steps"]]
    assert steps == [("verify", "failed")]
    after = api.get(PATH).json()
    assert [after[key] for key in ("pid", "port", "release", "status")] == [
        before[key] for key in ("pid", "port", "release", "status")
    ]


def lose_a_file(release: Path) -> None:
    (release / "venv" / "pyvenv.cfg").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (delete_python, "its Python is missing"),
        (lose_the_interpreter, "its Python is missing"),
        (lose_a_file, "a file is missing"),
    ],
)
def test_a_damaged_environment_is_told_of_each_release_that_shares_it_and_shared_no_more(
    api: Api, damage: Callable[[Path], None], words: str
) -> None:
    damage(first(api))
    for number in (1, 2):
        assert str(ready(api, number)).startswith(words)
    problem(api.post(f"{PATH}/rollback", params={"wait": 60}), 409, "release-damaged")
    api.deploy(zip_package("stdlib_agent", name=NAME, version="3.0.0"))
    assert ready(api, 3) is True
    assert (first(api) / "venv").readlink() != (first(api).with_name("3") / "venv").readlink()


def test_a_release_that_serves_is_compiled_and_is_still_what_was_installed(
    server: RunningServer,
) -> None:
    server.client.deploy(zip_package("stdlib_agent"))
    code = server.state.code("stdlib_agent", 1)
    wait_until(lambda: list(code.glob("__pycache__/main.*.pyc")))
    wait_until((server.state.venv("stdlib_agent", 1) / ".bytecode").exists)
    server.client.deploy(zip_package("stdlib_agent", version="2.0.0"))
    (first,) = [each for each in server.client.releases("stdlib_agent") if each.number == 1]
    assert first.rollback_ready is True


def test_an_agent_that_is_being_compiled_can_be_removed(server: RunningServer) -> None:
    many = {f"part{number}.py": "a = 1\n" * 50 for number in range(2000)}
    server.client.deploy(zip_package("stdlib_agent", extra_files=many))
    wait_until(lambda: list(server.state.code("stdlib_agent", 1).glob("__pycache__/part*")))
    server.client.remove("stdlib_agent")
    assert not server.state.agent("stdlib_agent").exists()


def test_an_agent_whose_release_was_damaged_is_not_stopped_for_a_restart(api: Api) -> None:
    before = api.get(PATH).json()
    (api.server.state.release(NAME, 2) / "venv" / "bin" / "python").unlink()

    document = problem(api.post(f"{PATH}/restart"), 409, "release-damaged")

    assert "release 2 is damaged" in document["detail"]
    after = api.get(PATH).json()
    assert (after["pid"], after["port"]) == (before["pid"], before["port"])
    assert requests.get(f"{after['url']}/health", timeout=20).status_code == 200
    assert "its Python is missing" in api.get(f"{PATH}/why").json()["cause"]
