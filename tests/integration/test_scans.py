"""Scans of real deployments: told on deployment, release and plan, and a gate only by setting."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.client import Client
from deployer.errors import RequirementsInvalidError, ScanBlockedError
from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server
from tests.wheels import make_index, make_source, make_wheel

HIDDEN = "from base64 import b64decode\nexec(b64decode('cGFzcw=='))\n"
ADVISORY = {
    "id": "GHSA-1",
    "summary": "a hole",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "alpha"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}],
        }
    ],
}
SCANNER = """
import json, pathlib, sys
found = [
    {"rule": "own", "file": path.name, "line": 1, "message": "m", "severity": "low"}
    for path in pathlib.Path(sys.argv[-1]).glob("*.flagged")
]
print(json.dumps({"findings": found}))
"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, installer_cache: Path
) -> Iterator[RunningServer]:
    """A server that blocks what is hidden, and knows a vulnerable dependency."""
    root = tmp_path_factory.mktemp("c")
    for version in ("1.0", "2.0"):
        make_wheel(root / "wheels", "alpha", version)
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        archive.writestr("GHSA-1.json", json.dumps(ADVISORY))
    (root / "scanner.py").write_text(SCANNER)
    with running_server(
        root / "state",
        cache_dir=installer_cache,
        index_url=f"file://{make_index(root / 'index', [])}/simple",
        find_links=[str(root / "wheels")],
        scan={
            "block": ["decoded-code", "own"],
            "osv_archive": str(root / "all.zip"),
            "command": [sys.executable, str(root / "scanner.py")],
        },
    ) as it:
        yield it


@pytest.fixture
def client(server: RunningServer) -> Client:
    return server.client


def package(name: str, **files: str) -> bytes:
    """Zip an agent with more files; a double underscore stands for a dot."""
    extra: dict[str, bytes | str] = {key.replace("__", "."): text for key, text in files.items()}
    return zip_package("stdlib_agent", name=name, extra_files=extra)


def told(document: Any) -> dict[str, tuple[str, list[str]]]:
    """Give status and rules by scanner."""
    return {
        each["scanner"]: (each["status"], [found["rule"] for found in each["findings"]])
        for each in document["scans"]
    }


def test_findings_are_told_on_deployment_and_release_and_stop_nothing(
    server: RunningServer, client: Client
) -> None:
    data = package("told", more__py="eval(x)\n", requirements__txt="alpha==1.0\n")
    deployed = client.deploy(data)
    assert deployed.deployment is not None
    assert deployed.connection is not None
    assert deployed.connection.status == "running"
    expected = {
        "source": ("findings", ["dynamic-code"]),
        "advisories": ("findings", ["known-vulnerability"]),
        "command": ("clean", []),
    }
    assert told(deployed.deployment.document) == expected
    release = server.request("GET", "/v1/agents/told/releases/1").json()
    assert told(release) == expected
    (step,) = [each for each in deployed.deployment.steps if each.name == "scan"]
    assert step.message == "1 dynamic-code, 1 known-vulnerability"
    (found,) = deployed.deployment.scans[1].findings
    assert found.message == "alpha 1.0: GHSA-1: a hole; fixed in 2.0"


@pytest.mark.parametrize(
    ("files", "where"),
    [
        ({"hidden__py": HIDDEN}, "hidden.py:2: decoded-code"),
        ({"x__flagged": ""}, "x.flagged:1: own"),
    ],
)
def test_what_the_settings_block_never_goes_live(
    server: RunningServer, client: Client, files: dict[str, str], where: str
) -> None:
    client.deploy(package("kept"))
    before = client.agent("kept")
    with pytest.raises(ScanBlockedError) as caught:
        client.deploy(package("kept", **files))
    assert caught.value.cause.startswith(where)
    after = client.agent("kept")
    assert (after.pid, after.release) == (before.pid, before.release)
    assert [path.name for path in server.state.agent("kept").glob("releases/*")] == ["1"]
    failed = server.request("GET", "/v1/deployments?agent=kept&limit=1").json()["deployments"][0]
    assert any(rules for _, rules in told(failed).values())
    client.remove("kept")


def test_a_plan_tells_known_vulnerabilities_beforehand(client: Client) -> None:
    plan = client.plan("planned", package("planned", requirements__txt="alpha<2\n"))
    assert plan.vulnerabilities is not None
    assert [each.rule for each in plan.vulnerabilities.findings] == ["known-vulnerability"]
    plan = client.plan("planned", package("planned", requirements__txt="alpha\n"))
    assert plan.vulnerabilities is not None
    assert plan.vulnerabilities.status == "clean"


def test_source_is_built_for_a_real_agent_where_the_settings_allow_it(
    tmp_path: Path, installer_cache: Path
) -> None:
    make_source(tmp_path / "wheels", "alpha")
    with running_server(
        tmp_path / "s",
        cache_dir=installer_cache,
        index_url=f"file://{make_index(tmp_path / 'index', [])}/simple",
        find_links=[str(tmp_path / "wheels")],
        install={"allow_sdist": True},
    ) as server:
        deployed = server.client.deploy(package("builder", requirements__txt="alpha\n"))
        assert deployed.deployment is not None
        assert deployed.deployment.succeeded
        lock = server.state.requirements_lock("builder", 1).read_text()
        assert "alpha @ file://" in lock


def test_requirements_without_hashes_are_refused_at_the_door_where_they_are_required(
    tmp_path: Path, installer_cache: Path
) -> None:
    strict = {"require_hashes": True}
    with running_server(tmp_path / "s", cache_dir=installer_cache, install=strict) as server:
        with pytest.raises(RequirementsInvalidError) as caught:
            server.client.deploy(package("strict", requirements__txt="six\nattrs==1\n"))
        assert [each.where for each in caught.value.problems] == [
            "requirements.txt:1",
            "requirements.txt:2",
        ]
        assert server.client.deploy(package("strict")).connection is not None
