"""What deploy/ holds for Prometheus and Grafana, tried on the programs and a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.package_zips import zip_package
from tests.programs import needed
from tests.servers import RunningServer, free_ports, running_server, wait_until

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted(PROMETHEUS.glob("*.rules.yml"))
DASHBOARD = ROOT / "deploy" / "grafana" / "atoll-deployer.json"
ALERT_TESTS = ROOT / "tests" / "prometheus" / "alerts.test.yml"

NAME = "scraped"
LIMITS = """[resources]
memory_limit = "256MB"
cpu_limit = 1.0
disk_limit = "1GB"

[health]"""
OURS = re.compile(r"\b(?:atoll_deployer|process)_[a-z0-9_]+")
SAMPLES = re.compile(r"_(?:total|bucket|count|sum)$")


def promtool(*arguments: object, text: str | None = None) -> str:
    command = [needed("promtool"), *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, input=text
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def panels() -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in read if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    """Give the queries of all panels as Grafana asks them, each with its panel's title."""
    given = {"$__rate_interval": "10s", "$instance": ".*", "$agent": ".*"}
    found = []
    for panel in panels():
        for target in panel["targets"]:
            query = target["expr"]
            for variable, value in given.items():
                query = query.replace(variable, value)
            assert "$" not in query
            found.append((panel["title"], query))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, installer_cache: Path) -> Iterator[Any]:
    """A server with an agent that has every limit, and a key that expires."""
    root = tmp_path_factory.mktemp("prometheus") / "state"
    limits = {"disk_seconds": 1.0}
    with running_server(root, cache_dir=installer_cache, limits=limits) as it:
        package = zip_package("stdlib_agent", name=NAME, replace={"[health]": LIMITS})
        it.client.deploy(package)
        it.client.create_key("prometheus", expires_in_days=30)
        wait_until(lambda: f'agent_memory_bytes{{agent="{NAME}"}}' in metrics(it), what="measured")
        yield it


def metrics(server: RunningServer) -> str:
    return server.request("GET", "/metrics").text


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*RULES, DASHBOARD, ALERT_TESTS], ids=lambda path: path.name)
def test_every_metric_that_is_asked_for_is_told(server: RunningServer, path: Path) -> None:
    told = {family.name for family in text_string_to_metric_families(metrics(server))}
    asked = {SAMPLES.sub("", name) for name in OURS.findall(path.read_text())}
    assert asked or path.name.startswith("certificates")
    assert asked - told == set()


def test_every_metric_of_ours_is_on_the_dashboard(server: RunningServer) -> None:
    told = {family.name for family in text_string_to_metric_families(metrics(server))}
    shown = {SAMPLES.sub("", name) for name in OURS.findall(DASHBOARD.read_text())}
    ours = {name for name in told if name.startswith("atoll_deployer_")}
    # A limit is shown where agents come near it often enough to see.
    assert ours - shown == {"atoll_deployer_agent_disk_limit_bytes"}


def test_promtool_finds_nothing_to_say_about_the_names(server: RunningServer) -> None:
    assert promtool("check", "metrics", text=metrics(server)) == ""


# Rules --------------------------------------------------------------------------------------------


def test_promtool_accepts_rules_and_configuration() -> None:
    promtool("check", "rules", "--lint-fatal", *RULES)
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    promtool("test", "rules", ALERT_TESTS)


def test_every_alert_is_tested() -> None:
    there = {name for path in RULES for name in re.findall(r"- alert: (\w+)", path.read_text())}
    assert there == set(re.findall(r"- alertname: (\w+)", ALERT_TESTS.read_text()))


# A real Prometheus --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus with the example configuration, in more of a hurry."""
    program = needed("prometheus")
    folder = tmp_path_factory.mktemp("prometheus-data")
    for path in RULES:
        shutil.copy(path, folder)
    key = folder / "key"
    key.write_text(server.client.create_key("scraper").key)
    text = (PROMETHEUS / "prometheus.yml").read_text()
    for theirs, ours in {
        "/etc/prometheus/atoll-deployer.key": str(key),
        "127.0.0.1:8080": f"127.0.0.1:{server.port}",
        "scrape_interval: 15s": "scrape_interval: 1s",
        "evaluation_interval: 15s": "evaluation_interval: 1s",
    }.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    config = folder / "prometheus.yml"
    config.write_text(text)
    promtool("check", "config", config)
    address = f"127.0.0.1:{free_ports(1)}"
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    with subprocess.Popen(
        [*command, f"--web.listen-address={address}", "--log.level=error"],
        stdin=subprocess.DEVNULL,
    ) as process:
        try:
            yield f"http://{address}"
        finally:
            process.terminate()


def ask(prometheus: str, query: str) -> list[dict[str, Any]]:
    try:
        response = requests.get(f"{prometheus}/api/v1/query", params={"query": query}, timeout=10)
    except requests.ConnectionError:  # it is not there yet
        return []
    if response.status_code == 503:  # nor is it ready
        return []
    answer = response.json()
    assert answer["status"] == "success", answer
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def test_prometheus_scrapes_the_server_with_its_key(prometheus: str) -> None:
    up = wait_until(lambda: ask(prometheus, 'up{job="atoll-deployer"} == 1'), what="scraped")
    assert len(up) == 1
    (agent,) = ask(prometheus, "atoll_deployer_agent_up")
    assert (agent["metric"]["agent"], agent["value"][1]) == (NAME, "1")


@pytest.mark.parametrize(("title", "query"), queries(), ids=[title for title, _ in queries()])
def test_every_query_of_the_dashboard_shows_something(
    prometheus: str, title: str, query: str
) -> None:
    wait_until(lambda: ask(prometheus, "atoll_deployer_build_info"), what="scraped")
    assert wait_until(lambda: ask(prometheus, query), what=f"something in {title}")


def test_no_alert_fires_about_a_server_that_is_well(prometheus: str) -> None:
    wait_until(lambda: ask(prometheus, "atoll_deployer_build_info"))

    def are_evaluated() -> list[dict[str, Any]]:
        data = requests.get(f"{prometheus}/api/v1/rules", timeout=10).json()["data"]
        rules = [rule for group in data["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] == "ok" for rule in rules) else []

    rules = wait_until(are_evaluated, what="all rules evaluated")
    outside = {"AtollDeployerUnreachable"}  # nobody listens where the blackbox exporter would
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} <= outside
