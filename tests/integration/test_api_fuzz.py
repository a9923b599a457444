"""Whatever the OpenAPI document allows, and much that it does not: answered as it says, no 5xx."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy, one_of
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.package_zips import zip_package
from tests.servers import RunningServer, running_server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,  # last: each event would be held to what is said of the stream
]
SECONDS = 20.0
AGENT = "stdlib_agent"
OTHER = "a-fuzzed"
AGENTS = (AGENT, OTHER)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of its own: what is sent to it starts, stops and removes whatever it can name."""
    root = tmp_path_factory.mktemp("fuzzed")
    with running_server(root / "state") as server:
        yield server


def test_with_the_token_every_answer_is_documented(fuzzed: RunningServer) -> None:
    headers = {"Authorization": f"Bearer {fuzzed.token}"}
    assert fuzz(fuzzed, headers, examples=20) == []


def test_without_a_token_every_answer_is_documented(fuzzed: RunningServer) -> None:
    assert fuzz(fuzzed, {}, examples=5) == []


@pytest.mark.parametrize(
    ("scope", "agents", "untouched"),
    [
        ("read", ["*"], AGENTS),
        ("operate", ["*"], ()),
        ("deploy", ["a-*"], (AGENT,)),
    ],
)
def test_with_any_key_every_answer_is_documented_and_what_it_may_not_do_is_not_done(
    fuzzed: RunningServer, scope: str, agents: list[str], untouched: Collection[str]
) -> None:
    for name in AGENTS:
        fuzzed.client.deploy(zip_package(AGENT, name=name))
    pids = {name: fuzzed.client.agent(name).pid for name in untouched}
    keys = key_ids(fuzzed)
    key = fuzzed.client.create_key(f"{scope} {agents}", scope=scope, agents=agents)

    breaches = fuzz(fuzzed, {"Authorization": f"Bearer {key.key}"}, examples=5)

    assert breaches == []
    assert {name: fuzzed.client.agent(name).pid for name in untouched} == pids
    assert key_ids(fuzzed) == {*keys, key.id}


def key_ids(server: RunningServer) -> set[str]:
    return {str(key["id"]) for key in server.request("GET", "/v1/keys").json()["keys"]}


def fuzz(server: RunningServer, headers: dict[str, str], *, examples: int) -> list[str]:
    """Send made-up requests to every operation, and give what was answered undocumented.

    Two thirds of those that name an agent name one that is there, if what came before did not
    remove it.
    """
    schema = schemathesis.openapi.from_dict(server.request("GET", "/openapi.json").json())
    schema.config.update(base_url=server.url)
    breaches = []
    for found in schema.get_all_operations():
        operation = found.ok()
        for name in AGENTS:
            server.client.deploy(zip_package(AGENT, name=name))
        try:
            _fuzz_one(operation, headers, examples)
        except (AssertionError, FailureGroup) as error:
            breaches.append(f"{operation.label}: {_reasons(error)}")
    assert server.is_ready()
    return breaches


def _fuzz_one(operation: schemathesis.APIOperation, headers: dict[str, str], examples: int) -> None:
    @given(case=_cases(operation))
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def send(case: schemathesis.Case) -> None:
        answer = _answer(case, headers)
        is_stream = answer.headers.get("content-type", [""])[0] == "text/event-stream"
        case.validate_response(answer, checks=CHECKS[:-1] if is_stream else CHECKS)

    send()


def _cases(operation: schemathesis.APIOperation) -> SearchStrategy[schemathesis.Case]:
    """Make up requests that keep to the document, and where there is a rule, some that do not."""
    kept = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not (operation.query or operation.body):
        return kept
    broken = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    return one_of(kept, broken)


def _answer(case: schemathesis.Case, headers: dict[str, str]) -> schemathesis.Response:
    """Send one request that holds no thread for long."""
    query = dict(case.query or {})
    query.pop("follow", None)
    query.update((name, "0") for name in ("wait", "timeout") if name in query)
    if case.path == "/-/live":  # a stream, whatever it is asked
        query["wait"] = "0"
    if case.path.endswith("/wait"):  # its own patience is longer than ours
        query.setdefault("timeout", "0")
    case.query = query
    named = case.path_parameters or {}
    if "agent" in named:
        known = {1: AGENT, 2: OTHER}.get(len(str(named["agent"])) % 3)
        case.path_parameters = {**named, "agent": known or named["agent"]}
    return case.call(headers=headers, timeout=SECONDS)


def _reasons(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_reasons(each) for each in error.exceptions)
    return str(error)
