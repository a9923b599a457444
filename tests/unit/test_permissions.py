"""Every operation with every scope: what it asks for, and that it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from deployer.agent_patterns import EVERY_AGENT
from deployer.keys import Key, Scope, digest_of, id_of, new_text
from deployer.store import Store, now
from tests.wired_apps import TEXT, wired_app

LOOKING_POSTS = {"/check"}
"""What ATOLL's client asks by POST, though it only looks."""


class World:
    """The application, with keys as they are needed."""

    def __init__(self, app: Any, store: Store) -> None:
        self.app = app
        self.store = store
        self._texts: dict[tuple[Scope, tuple[str, ...]], str] = {}
        paths = self.ask("GET", "/openapi.json", TEXT).json["paths"]
        self.operations = [
            (method.upper(), path, operation)
            for path, methods in paths.items()
            for method, operation in methods.items()
        ]

    def key(self, scope: Scope, agents: tuple[str, ...] = EVERY_AGENT) -> str:
        if (scope, agents) not in self._texts:
            text = self._texts[scope, agents] = new_text()
            digest = digest_of(text)
            self.store.keys.add(Key(id_of(text), "test", scope, agents, digest, now()))
        return self._texts[scope, agents]

    def ask(self, method: str, path: str, text: str, **more: Any) -> falcon.testing.Result:
        client = falcon.testing.TestClient(self.app)
        headers = {"Authorization": f"Bearer {text}"}
        return client.simulate_request(
            method, path, headers=headers, params={"timeout": "0", "wait": "0"}, **more
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("state")
    with wired_app(folder) as (app, store):
        yield World(app, store)


def address(path: str, agent: str = "web-1") -> str:
    return re.sub(r"\{\w+\}", "1", path.replace("{agent}", agent))


def code(answer: falcon.testing.Result) -> str:
    is_problem = answer.headers.get("Content-Type") == "application/problem+json"
    return str(answer.json["code"]) if is_problem else ""


def is_refused(answer: falcon.testing.Result) -> bool:
    return code(answer) in {"scope-missing", "agent-forbidden", "authentication-required"}


@pytest.mark.parametrize("scope", list(Scope))
def test_every_operation_is_open_to_its_scope_and_to_those_above_only(
    world: World, scope: Scope
) -> None:
    asked = 0
    for method, path, operation in world.operations:
        if operation.get("security") == []:
            continue
        for verb in {method, "HEAD" if method == "GET" else method}:
            asked += 1
            answer = world.ask(verb, address(path), world.key(scope))
            is_enough = scope.includes(Scope(operation["x-scope"]))
            where = f"{verb} {path} as {scope}: {answer.status} {answer.text}"
            if verb == "HEAD":
                assert (answer.status_code == 403) is not is_enough, where
            else:
                assert (code(answer) == "scope-missing") is not is_enough, where
                assert is_enough is not is_refused(answer), where
    assert asked > 50


def test_without_a_key_every_operation_but_the_open_ones_answers_401(world: World) -> None:
    client = falcon.testing.TestClient(world.app)
    for method, path, operation in world.operations:
        if operation.get("security") != []:
            assert client.simulate_request(method, address(path)).status_code == 401, path


def test_only_what_looks_is_open_to_those_who_may_only_look(world: World) -> None:
    for method, path, operation in world.operations:
        if operation.get("x-scope") == Scope.READ:
            assert method == "GET" or path in LOOKING_POSTS, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/agents/{agent}/restart", Scope.OPERATE),
        ("POST", "/v1/agents/{agent}/kill", Scope.OPERATE),
        ("POST", "/stop", Scope.OPERATE),
        ("POST", "/deploy", Scope.DEPLOY),
        ("POST", "/v1/agents/{agent}/rollback", Scope.DEPLOY),
        ("DELETE", "/v1/agents/{agent}", Scope.DEPLOY),
        ("GET", "/v1/keys", Scope.ADMIN),
        ("POST", "/v1/keys", Scope.ADMIN),
        ("DELETE", "/v1/keys/{key_id}", Scope.ADMIN),
    ],
)
def test_acts_ask_for_what_they_are_worth(
    world: World, method: str, path: str, scope: Scope
) -> None:
    found = {(verb, each): operation for verb, each, operation in world.operations}
    assert found[method, path]["x-scope"] == scope


def test_a_key_for_some_agents_reaches_no_other_agents_address(world: World) -> None:
    text = world.key(Scope.DEPLOY, ("web-*",))
    with_agent = [(m, p) for m, p, o in world.operations if "{agent}" in p]
    assert len(with_agent) > 15
    for method, path in with_agent:
        answer = world.ask(method, address(path, "api"), text)
        assert code(answer) == "agent-forbidden", (method, path, answer.text)
        assert not is_refused(world.ask(method, address(path, "web-1"), text)), (method, path)


def test_a_key_for_some_agents_is_refused_what_concerns_all_and_does_not_choose(
    world: World,
) -> None:
    text = world.key(Scope.READ, ("web-*",))
    for path in ("/supervisor/", "/supervisor/tail.html"):
        assert code(world.ask("GET", path, text)) == "agent-forbidden", path
    for path in ("/v1/agents", "/v1/events", "/v1/ports", "/v1/deployments", "/agents", "/metrics"):
        assert not is_refused(world.ask("GET", path, text)), path


@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
def test_an_agent_named_in_a_body_is_judged_as_one_in_an_address(world: World, verb: str) -> None:
    text = world.key(Scope.OPERATE, ("web-*",))
    for name, refused in (("api", True), ("web-1", False), ("../web-1", True)):
        answer = world.ask("POST", f"/{verb}", text, json={"agent_name": name})
        assert (code(answer) == "agent-forbidden") is refused, answer.text
