"""Lists that come a page at a time: `next` leads through all of each, and ends with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contracts import Api, Contract
from tests.openapi_json import FILE
from tests.package_zips import zip_package
from tests.servers import RunningServer

NAME = "listed"
LISTS = sorted(
    path
    for path, methods in json.loads(FILE.read_text())["paths"].items()
    if any(each.get("name") == "cursor" for each in methods.get("get", {}).get("parameters", ()))
)


@pytest.fixture(scope="module")
def api(shared_server: RunningServer, contract: Contract) -> Iterator[Api]:
    """The API of a server that has some of everything."""
    api = Api(shared_server, contract)
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        api.deploy(zip_package("stdlib_agent", name=NAME, version=version), start="false")
    api.deploy(zip_package("stdlib_agent", name=f"{NAME}-too"), start="false")
    client = shared_server.client
    made = [client.create_key(f"{NAME}-{number}").id for number in range(3)]
    for number in range(3):
        client.set_secret(f"{NAME}-{number}", "x")
    yield api
    for number, key in enumerate(made):
        client.revoke_key(key)
        client.remove_secret(f"{NAME}-{number}")
    for agent in (NAME, f"{NAME}-too"):
        client.remove(agent)


def pages(api: Api, path: str, limit: int) -> list[list[Any]]:
    """Read a list to its end: what names each item, page by page."""
    found, cursor = [], None
    while True:
        page = api.get(path, params={"limit": limit, "cursor": cursor}).json()
        (items,) = (each for each in page.values() if isinstance(each, list))
        assert page["count"] == len(items)
        found.append([each.get("id") or each.get("number") or each["name"] for each in items])
        cursor = page["next"]
        if cursor is None:
            return found


@pytest.mark.parametrize("path", LISTS)
def test_next_leads_through_a_list_to_its_end(api: Api, path: str) -> None:
    path = path.replace("{agent}", NAME)
    whole = [each for page in pages(api, path, 1000) for each in page]
    assert len(set(whole)) == len(whole) > 1

    parts = pages(api, path, (len(whole) + 1) // 2)

    assert len(parts) == 2
    assert [each for page in parts for each in page] == whole


def test_every_list_is_read() -> None:
    assert "/v1/deployments" in LISTS
    assert "/v1/events" not in LISTS  # is followed: its `next` is where to go on, also later


def test_the_timeline_goes_on_where_its_next_says(api: Api) -> None:
    newest = api.get("/v1/events", params={"limit": 1000}).json()["next"]
    assert api.get("/v1/events", params={"after": newest}).json()["next"] is not None
