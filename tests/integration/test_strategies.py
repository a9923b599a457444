"""How a new release takes over: what each strategy promises, counted under a load of requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from deployer.errors import DeployerError
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

AGENT = "stdlib_agent"


class Load:
    """Requests to one address, one after the other, each on a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lost: list[str] = []
        self.answered = 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                requests.get(f"{self.url}/health", timeout=20).raise_for_status()
                self.answered += 1
            except requests.RequestException as error:
                self.lost.append(str(error))
            time.sleep(0.002)

    def end(self) -> None:
        self._over.set()


@contextmanager
def load_on(url: str) -> Iterator[Load]:
    load = Load(url)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.end()
        thread.join()


def broken_package() -> bytes:
    return zip_package("exits_at_once", name=AGENT, version="9.9.9")


def steps_of_latest(server: RunningServer) -> list[str]:
    return [step.name for step in server.client.deployments(agent=AGENT)[0].steps]


def url_of(server: RunningServer) -> str:
    url = server.client.agent(AGENT).url
    assert url is not None
    return url


HANGS = "serve(lambda path: time.sleep(600))"
ANSWERS_500 = "serve(lambda path: (500, {}))"
SICKENS = "answers = iter([200]); serve(lambda path: (next(answers, 500), {}))"


def sick_package(serving: str, soak_seconds: int = 0) -> bytes:
    """Make a package that starts and is no good."""
    health = "start_seconds = 4\ntimeout_seconds = 1"
    return zip_package(
        AGENT,
        version="9.9.9",
        extra_files={"first.py": f"import time\nfrom serving import serve\n{serving}\n"},
        replace={
            "[agent]": f"[deployment]\nmin_healthy_seconds = {soak_seconds}\n"
            '[agent]\nentrypoint = "first.py"',
            "start_seconds = 20": health,
        },
    )


@pytest.mark.parametrize("strategy", ["rehearse", "parallel"])
@pytest.mark.parametrize(
    ("broken", "why", "step"),
    [
        pytest.param(broken_package(), "exited", "", id="exits"),
        pytest.param(sick_package(HANGS), "not healthy", "health_check", id="hangs"),
        pytest.param(sick_package(ANSWERS_500), "HTTP 500", "health_check", id="answers 500"),
        pytest.param(sick_package(SICKENS, soak_seconds=4), "HTTP 500", "soak", id="sickens"),
    ],
)
def test_a_broken_release_costs_no_request(
    server: RunningServer, broken: bytes, why: str, step: str, strategy: str
) -> None:
    server.client.deploy(zip_package(AGENT))
    before = server.client.agent(AGENT)
    with load_on(url_of(server)) as load:
        wait_until(lambda: load.answered > 20)
        with pytest.raises(DeployerError, match=why):
            server.client.deploy(broken, strategy=strategy)
        enough = load.answered + 20
        wait_until(lambda: load.answered > enough)
    assert load.lost == []
    assert steps_of_latest(server)[-1].endswith(step)  # which it is when it exits is chance
    after = server.client.agent(AGENT)
    assert (after.pid, after.release) == (before.pid, before.release)


def test_rehearse_proves_the_release_elsewhere_and_keeps_the_port(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT, version="1.0.0"))
    before = server.client.agent(AGENT)
    server.client.deploy(zip_package(AGENT, version="2.0.0"))
    after = server.client.agent(AGENT)
    assert (after.port, after.version) == (before.port, "2.0.0")
    assert steps_of_latest(server) == [
        "validate",
        "unpack",
        "install",
        "scan",
        "start",
        "health_check",
        "stop",
        "start",
        "health_check",
        "activate",
        "retire",
    ]
    assert not server.state.rehearsal(AGENT, 2).exists()


def test_a_release_rehearses_with_empty_data_outside_the_range(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT))
    (server.state.agent_data(AGENT) / "kept.txt").write_text("of the live agent")
    writes_where_it_is = (
        "import os, json\n"
        "seen = {'port': os.environ['PORT'], 'files': os.listdir(os.environ['HOME'])}\n"
        "print('seen', json.dumps(seen), flush=True)\n"
    )
    server.client.deploy(
        zip_package(
            AGENT,
            version="2.0.0",
            extra_files={
                "first.py": writes_where_it_is + "import runpy; runpy.run_path('main.py')"
            },
            replace={"[agent]": '[agent]\nentrypoint = "first.py"'},
        )
    )
    printed = server.state.stdout_log(f"{AGENT}--2").read_text().splitlines()
    rehearsal, live = [line for line in printed if line.startswith("seen")]
    assert '"files": []' in rehearsal
    assert "kept.txt" in live
    assert f'"{server.client.agent(AGENT).port}"' not in rehearsal


def test_replace_stops_first_and_tells_the_gap(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT, version="1.0.0"))
    server.client.deploy(zip_package(AGENT, version="2.0.0"), strategy="replace")
    deployment = server.client.deployments(agent=AGENT)[0]
    assert [step.name for step in deployment.steps][4] == "stop"
    assert "without an answer" in deployment.steps[-2].message


def test_parallel_takes_another_port_before_the_old_one_ends(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT, version="1.0.0"))
    before = server.client.agent(AGENT)
    server.client.deploy(zip_package(AGENT, version="2.0.0"), strategy="parallel")
    after = server.client.agent(AGENT)
    assert after.port != before.port
    assert "stop" not in steps_of_latest(server)
    assert [lease.port for lease in server.client.ports().leases] == [after.port]


def test_a_release_that_sickens_in_its_soak_is_refused(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT))
    dies_when_asked_again = (
        "import os, serving, threading\n"
        "at_first = iter([True])\n"
        "def answer(path):\n"
        "    if not next(at_first, False):\n"
        "        threading.Timer(0.1, os._exit, [7]).start()\n"
        "    return serving.healthy(path)\n"
        "serving.serve(answer)\n"
    )
    with pytest.raises(DeployerError) as raised:
        server.client.deploy(
            zip_package(
                AGENT,
                version="2.0.0",
                extra_files={"first.py": dies_when_asked_again},
                replace={
                    "[agent]": "[deployment]\nmin_healthy_seconds = 5\n"
                    '[agent]\nentrypoint = "first.py"'
                },
            )
        )
    assert "7" in raised.value.cause
    assert server.client.agent(AGENT).version != "2.0.0"
    assert steps_of_latest(server)[-1] == "soak"


def test_a_deployment_can_be_canceled_until_it_is_activated(server: RunningServer) -> None:
    server.client.deploy(zip_package(AGENT))
    slow = zip_package(
        AGENT,
        version="2.0.0",
        replace={"[agent]": "[deployment]\nmin_healthy_seconds = 60\n[agent]"},
    )
    package = server.client.upload(slow)
    answer = server.request("POST", "/v1/deployments", json={"package": package.md5})
    deployment_id = answer.json()["id"]
    wait_until(lambda: "soak" in steps_of_latest(server))
    server.client.cancel_deployment(deployment_id)
    wait_until(lambda: server.client.deployment(deployment_id).status == "canceled")
    agent = server.client.agent(AGENT)
    assert (agent.release, agent.status) == (1, "running")
    assert not server.state.release(AGENT, 2).exists()


def test_a_replacement_that_is_canceled_while_it_is_asked_brings_the_old_release_back(
    server: RunningServer,
) -> None:
    server.client.deploy(zip_package(AGENT))
    before = server.client.agent(AGENT)
    hangs = zip_package(
        AGENT,
        version="2.0.0",
        extra_files={"first.py": f"import time\nfrom serving import serve\n{HANGS}\n"},
        replace={
            "[agent]": '[agent]\nentrypoint = "first.py"',
            "start_seconds = 20": "start_seconds = 120\ntimeout_seconds = 1",
        },
    )
    body = {"package": server.client.upload(hangs).md5, "strategy": "replace"}
    deployment_id = server.request("POST", "/v1/deployments", json=body).json()["id"]
    wait_until(lambda: "health_check" in steps_of_latest(server))

    server.client.cancel_deployment(deployment_id)

    wait_until(lambda: server.client.deployment(deployment_id).status == "canceled")
    after = server.client.agent(AGENT)
    assert (after.release, after.status, after.port) == (1, "running", before.port)
    assert requests.get(f"{url_of(server)}/health", timeout=20).ok
    assert not server.state.release(AGENT, 2).exists()
    assert [lease.port for lease in server.client.ports().leases] == [before.port]


WRITES_WHILE_IT_LOADS = """
import threading, time
def tell():
    while True:
        print("loaded another part", flush=True)
        time.sleep(0.1)
threading.Thread(target=tell, daemon=True).start()
import runpy; runpy.run_path("main.py", run_name="__main__")
"""


def slow_package(first: str) -> bytes:
    """Make a package that takes seven seconds to start and is given three."""
    return zip_package(
        "slow_start",
        extra_files={"first.py": first},
        replace={
            "[agent]": '[agent]\nentrypoint = "first.py"',
            "start_seconds = 20": "start_seconds = 3",
            'START_SECONDS = "2"': 'START_SECONDS = "7"',
        },
    )


def test_the_deadline_of_a_start_moves_on_while_it_writes_into_its_log(
    server: RunningServer,
) -> None:
    server.client.deploy(slow_package(WRITES_WHILE_IT_LOADS))
    assert server.client.agent("slow_start").status == "running"


def test_the_deadline_of_a_start_that_is_silent_stays(server: RunningServer) -> None:
    silent = 'import runpy; runpy.run_path("main.py", run_name="__main__")'
    with pytest.raises(DeployerError, match="not healthy"):
        server.client.deploy(slow_package(silent))
