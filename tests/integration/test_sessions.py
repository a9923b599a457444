"""Sessions of browsers: what a cookie lets in by itself, and what only with its proof."""

from __future__ import annotations

import secrets

import pytest
import requests

from deployer.api.callers import COOKIE, PROOF
from tests.contracts import ZIP, Api, problem
from tests.package_zips import zip_package
from tests.visitors import Visitor


@pytest.fixture
def visitor(api: Api) -> Visitor:
    return Visitor(api, api.server.token)


def test_a_session_with_its_proof_may_what_its_key_may(visitor: Visitor) -> None:
    assert visitor.act("GET", "/v1/agents").status_code == 200
    assert visitor.act("POST", "/check", params={"checksum": "0" * 32}).status_code == 200


def test_a_session_without_its_proof_acts_nowhere(visitor: Visitor) -> None:
    problem(visitor.ask("GET", "/v1/agents"), 401, "authentication-required")
    problem(visitor.ask("POST", "/v1/agents/nobody/stop"), 401, "authentication-required")


@pytest.mark.parametrize("proof", ["", "0" * 64, "é"])
def test_a_wrong_proof_is_none(visitor: Visitor, proof: str) -> None:
    answer = visitor.ask("GET", "/v1/agents", headers={PROOF: proof.encode()})
    problem(answer, 401, "authentication-required")


def test_the_proof_of_one_session_is_none_for_another(api: Api, visitor: Visitor) -> None:
    made = api.post("/v1/keys", json={"name": "another", "scope": "read"}).json()
    other = Visitor(api, made["key"])
    answer = visitor.ask("GET", "/v1/agents", headers={PROOF: other.proof})
    problem(answer, 401, "authentication-required")


def test_a_proof_without_its_session_is_none(api: Api, visitor: Visitor) -> None:
    url = f"{api.server.url}/v1/agents"
    answer = requests.get(url, headers={PROOF: visitor.proof}, timeout=10)
    problem(answer, 401, "authentication-required")


def test_a_package_sent_by_a_session_is_taken_whatever_its_size(visitor: Visitor) -> None:
    large = {"data.bin": secrets.token_bytes(200_000)}
    package = zip_package("stdlib_agent", version="2.0.0", extra_files=large)
    without = visitor.ask("POST", "/v1/packages", data=package, headers=ZIP)
    problem(without, 401, "authentication-required")
    assert visitor.act("POST", "/v1/packages", data=package, headers=ZIP).status_code == 201


def test_another_sites_page_acts_in_nobodys_name(visitor: Visitor) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
        answer = visitor.act("POST", "/v1/agents/nobody/stop", headers=headers)
        problem(answer, 403, "forbidden")


def test_logging_out_takes_the_session_from_the_browser(api: Api) -> None:
    visitor = Visitor(api, api.server.token)
    answer = visitor.ask("DELETE", "/login")
    assert answer.status_code == 204
    assert COOKIE not in visitor.session.cookies
    assert visitor.ask("GET", "/docs").status_code == 401
