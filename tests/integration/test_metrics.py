"""`/metrics` of a real server, whose agents come and go."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployer.errors import AgentUnknownError
from tests.contracts import ZIP, Api, Contract
from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

NAME, OTHER = "measured", "other-measured"
PREFIX = "atoll_deployer_"


@pytest.fixture(scope="module")
def api(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The API of a server where one agent runs and is measured."""
    api = Api(shared_server, contract)
    api.deploy(zip_package("stdlib_agent", name=NAME))
    # the first look may have come before the first tick of its CPU time
    wait_until(lambda: value(api, "agent_cpu_seconds_total", agent=NAME), what="measured")
    yield api
    with contextlib.suppress(AgentUnknownError):
        shared_server.client.remove(NAME)


def series(text: str, name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == PREFIX + name
    ]


def value(api: Api, name: str, **labels: str) -> float | None:
    found = [
        value
        for given, value in series(api.get("/metrics").text, name)
        if labels.items() <= given.items()
    ]
    assert len(found) < 2, found
    return found[0] if found else None


def test_a_running_agent_is_up_and_shows_what_it_uses(api: Api) -> None:
    shown = api.get(f"/v1/agents/{NAME}").json()
    assert value(api, "agent_up", agent=NAME, release=str(shown["release"])) == 1
    assert value(api, "agent_desired_up", agent=NAME) == 1
    assert value(api, "agent_status", agent=NAME, status="running") == 1
    assert value(api, "agent_processes", agent=NAME) == 1
    assert (value(api, "agent_cpu_seconds_total", agent=NAME) or 0) > 0
    assert (value(api, "agent_memory_bytes", agent=NAME) or 0) > 1_000_000


def test_requests_count_under_their_route_and_never_under_their_path(api: Api) -> None:
    for path in (f"/v1/agents/{NAME}", "/v1/agents/nobody-of-that-name"):
        api.request("GET", path)
    api.server.request("GET", "/no-such/path")  # which the contract knows nothing of
    text = api.get("/metrics").text
    routes = {labels["route"] for labels, _ in series(text, "http_requests_seconds_count")}
    assert {"/v1/agents/{agent}", "none"} <= routes
    assert "no-such" not in text
    assert "nobody-of-that-name" not in text


def test_the_server_shows_supervisord_ports_disk_and_itself(api: Api) -> None:
    assert value(api, "supervisord_up") == 1
    assert (value(api, "ports_leased") or 0) >= 1
    assert value(api, "http_requests_in_flight") == 1  # this one
    text = api.get("/metrics").text
    for name in (
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_open_fds",
    ):
        assert f"\n{name}" in text


def test_a_deployment_is_counted_with_its_steps(api: Api) -> None:
    before = value(api, "deployments_total", status="failed") or 0
    broken = zip_package("missing_module", name=OTHER)
    answer = api.post("/v1/deployments?wait=60", data=broken, headers=ZIP)
    assert answer.status_code >= 400
    assert value(api, "deployments_total", status="failed") == before + 1
    assert (value(api, "deployment_step_seconds_count", step="install") or 0) >= 1


def test_an_agent_that_is_removed_leaves_no_series(api: Api) -> None:
    api.deploy(zip_package("stdlib_agent", name=OTHER))
    assert OTHER in api.get("/metrics").text
    api.server.client.remove(OTHER)
    assert OTHER not in api.get("/metrics").text


def test_a_key_for_some_agents_is_shown_those(api: Api) -> None:
    key = api.server.client.create_key("scraper", agents=["nobody-*"])
    headers = {"Authorization": f"Bearer {key.key}"}
    text = api.server.request("GET", "/metrics", headers=headers).text
    assert "atoll_deployer_build_info{" in text
    assert NAME not in text
    assert "http_requests" not in text
