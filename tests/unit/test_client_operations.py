"""The client against the contract: a method for each operation, that reads what is answered."""

from __future__ import annotations

import asyncio
import base64
import inspect
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.client import Client, nouns
from deployer.client.atoll import DeploymentClient
from tests.atoll_client import AtollClient
from tests.openapi_json import FILE
from tests.small_servers import Answer, Request, Server, serving

CONTRACT = json.loads(FILE.read_text(encoding="utf-8"))
NAME = "greeter"
MD5 = "5bd0388fb100a0a1383298ab45c2418d"
ZIP = b"PK\x05\x06" + bytes(18)

Call = Callable[[Client], Any]

CALLS: dict[str, Call] = {
    "GET /health": lambda client: client.health(),
    "GET /livez": lambda client: client.liveness(),
    "GET /readyz": lambda client: client.readiness(),
    "GET /metrics": lambda client: client.metrics(),
    "GET /openapi.json": lambda client: client.contract(),
    "GET /v1/server": lambda client: client.server(),
    "GET /v1/ports": lambda client: client.ports(),
    "GET /v1/events": lambda client: client.events(),
    "GET /v1/secrets": lambda client: client.secrets(),
    "PUT /v1/secrets/{secret}": lambda client: client.set_secret("s", "v"),
    "DELETE /v1/secrets/{secret}": lambda client: client.remove_secret("s"),
    "POST /v1/packages": lambda client: client.upload(ZIP),
    "GET /v1/packages/{checksum}": lambda client: client.package(MD5),
    "PUT /v1/packages/{checksum}/signature": lambda client: client.add_signature(signed()),
    "GET /v1/deployments": lambda client: client.deployments(),
    "POST /v1/deployments": lambda client: client.deploy(ZIP),
    "GET /v1/deployments/{deployment_id}": lambda client: client.deployment("7"),
    "GET /v1/deployments/{deployment_id}/events": lambda client: client.follow_deployment("7"),
    "POST /v1/deployments/{deployment_id}/cancel": lambda client: client.cancel_deployment("7"),
    "GET /v1/agents": lambda client: client.agents(),
    "GET /v1/agents/{agent}": lambda client: client.agent(NAME),
    "DELETE /v1/agents/{agent}": lambda client: client.remove(NAME),
    "POST /v1/agents/{agent}/start": lambda client: client.start(NAME),
    "POST /v1/agents/{agent}/stop": lambda client: client.stop(NAME),
    "POST /v1/agents/{agent}/restart": lambda client: client.restart(NAME),
    "POST /v1/agents/{agent}/kill": lambda client: client.kill(NAME),
    "GET /v1/agents/{agent}/wait": lambda client: client.wait(NAME),
    "GET /v1/agents/{agent}/logs": lambda client: client.logs(NAME),
    "GET /v1/agents/{agent}/why": lambda client: client.why(NAME),
    "POST /v1/agents/{agent}/plan": lambda client: client.plan(NAME, ZIP),
    "GET /v1/agents/{agent}/releases": lambda client: client.releases(NAME),
    "GET /v1/agents/{agent}/releases/{number}": lambda client: client.release(NAME, 2),
    "DELETE /v1/agents/{agent}/releases/{number}": lambda client: client.delete_release(NAME, 2),
    "POST /v1/agents/{agent}/rollback": lambda client: client.rollback(NAME),
    "GET /v1/keys": lambda client: client.keys(),
    "POST /v1/keys": lambda client: client.create_key("ci"),
    "GET /v1/keys/{key_id}": lambda client: client.key("k4m2"),
    "DELETE /v1/keys/{key_id}": lambda client: client.revoke_key("k4m2"),
    "GET /v1/audit": lambda client: client.audit(),
}
"""A call of the client for each operation; those that ask more than one thing ask this last."""

WIRE: dict[str, Callable[[Any], Any]] = {
    "GET /health": lambda client: client.health_check_sync(),
    "GET /agents": lambda client: client.list_agents_sync(),
    "POST /check": lambda client: client.check_agent_sync(MD5),
    "POST /deploy": lambda client: client.deploy_agent_sync(zipped()),
    "POST /start": lambda client: client.start_agent_sync(NAME),
    "POST /stop": lambda client: client.stop_agent_sync(NAME),
    "POST /restart": lambda client: client.restart_agent_sync(NAME),
    "GET /status/{agent}": lambda client: client.get_agent_status_sync(NAME),
}

FOLLOWING = {"follow_events", "follow_logs"}
"""Two of the operations above, as streams."""

ON_TOP = {"close", "has_package", "sub_agent", "twin", "url"}
"""What is no operation, or made of others."""

ALIASES = {
    "POST /agents/deploy",
    "POST /agents/{agent}/start",
    "POST /agents/{agent}/stop",
    "POST /agents/{agent}/restart",
    "GET /agents/{agent}",
    "GET /agents/{agent}/diagnostics",
}
"""Addresses that only ATOLL's documents name; its client never asks there."""

_folder: list[Path] = []


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[None]:
    _folder.append(tmp_path)
    yield
    _folder.clear()


def zipped() -> Path:
    path = _folder[0] / "p.zip"
    path.write_bytes(ZIP)
    return path


def signed() -> Path:
    path = zipped()
    path.with_name("p.zip.minisig").write_bytes(base64.b64encode(b"signature"))
    return path


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in CONTRACT["paths"].items():
        for method, described in methods.items():
            yield f"{method.upper()} {path}", described


def operation_of(request: Request) -> str:
    """Name the operation that a request is for; a word of an address comes before a parameter."""
    path = request.path.partition("?")[0]
    found = [
        name
        for name, _ in operations()
        if name.startswith(f"{request.method} ")
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", name.partition(" ")[2]), path)
    ]
    return min(found, key=lambda name: name.count("{"))


def example(request: Request) -> Answer:
    """Answer with the contract's own example for a success."""
    described = dict(operations())[operation_of(request)]
    good = [each for each in described["responses"] if each.startswith("2")]
    status = "204" if request.method == "DELETE" and "204" in good else min(good)
    content = described["responses"][status].get("content", {})
    if "text/event-stream" in content and "application/json" not in content:
        over = json.dumps(CONTRACT["components"]["examples"]["Deployment"]["value"])
        text = f"id: 9.end\nevent: end\ndata: {over}\n\n"
        return Answer(text=text, content_type="text/event-stream")
    if not content:
        return Answer(int(status), text="")
    media_type = next(iter(content))
    if "example" in content[media_type]:
        return Answer(text=content[media_type]["example"], content_type=media_type)
    examples = content[media_type].get("examples")
    if not examples:
        return Answer(media=CONTRACT)  # the contract itself
    name = next(iter(examples.values()))["$ref"].rpartition("/")[2]
    media = CONTRACT["components"]["examples"][name]["value"]
    return Answer(int(status), {**media, "next": None} if "next" in media else media)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(example) as it:
        yield it


@pytest.mark.parametrize("operation", CALLS)
def test_a_method_asks_for_its_operation_and_reads_the_answer(
    server: Server, operation: str
) -> None:
    with Client(server.url) as client:
        assert CALLS[operation](client) is not None or operation.startswith("DELETE")
    asked = [operation_of(each) for each in server.requests]
    assert operation in asked
    assert all(each in CALLS for each in asked)


@pytest.mark.parametrize("operation", WIRE)
def test_a_method_of_the_drop_in_asks_as_atolls_own_does(server: Server, operation: str) -> None:
    answer = WIRE[operation](DeploymentClient(server.url))
    given = example(server.requests[0]).media
    assert answer == (given["agents"] if operation == "GET /agents" else given)
    assert [operation_of(each) for each in server.requests] == [operation]


def test_the_drop_in_has_atolls_methods_as_coroutines_and_for_who_has_no_loop() -> None:
    for name, theirs in inspect.getmembers(AtollClient, inspect.isfunction):
        if name.startswith("_") or name == "call":  # that one is the tests' own
            continue
        awaited, blocking = (
            getattr(DeploymentClient, name),
            getattr(DeploymentClient, f"{name}_sync"),
        )
        assert (inspect.iscoroutinefunction(awaited), inspect.iscoroutinefunction(blocking)) == (
            True,
            False,
        )
        assert inspect.signature(awaited) == inspect.signature(blocking)
        assert len(inspect.signature(awaited).parameters) == len(
            inspect.signature(theirs).parameters
        )


def test_calls_of_the_drop_in_may_be_made_at_once(server: Server) -> None:
    client = DeploymentClient(server.url)

    async def ask() -> list[Any]:
        return await asyncio.gather(client.health_check(), client.list_agents())

    health, agents = asyncio.run(ask())
    assert (health["status"], len(agents)) == ("healthy", 1)


def test_there_is_a_method_for_each_operation() -> None:
    names = {name for name, described in operations() if described["tags"] != ["web"]}
    assert set(CALLS) | set(WIRE) | ALIASES | {"GET /docs"} == names


def test_there_is_an_operation_behind_each_method() -> None:
    methods = {name for name, _ in inspect.getmembers(Client) if not name.startswith("_")}
    called = {name for call in CALLS.values() for name in call.__code__.co_names if name in methods}
    assert called | FOLLOWING | ON_TOP == methods


def test_every_noun_is_where_the_client_looks_for_it() -> None:
    for name in itertools.chain.from_iterable(nouns.HOMES.values()):
        assert getattr(nouns, name).__name__ == name
    with pytest.raises(AttributeError, match="Nobody"):
        getattr(nouns, "Nobody")  # noqa: B009 - mypy knows that there is none


def test_importing_the_client_makes_no_noun() -> None:
    code = "import sys, deployer.client; print([m for m in sys.modules if '.nouns.' in m])"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]"
