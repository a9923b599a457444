"""Requests to a real server whose every answer is held to the server's own OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import requests
from jsonschema import Draft202012Validator, FormatChecker

from tests.servers import RunningServer, wait_until

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Contract:
    """An OpenAPI document that says of an answer whether it keeps to it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._patterns = [
            (re.compile(re.sub(r"\\\{(\w+)\\\}", _segment, re.escape(path))), path)
            for path in sorted(document["paths"], key=lambda path: path.count("{"))
        ]

    def path_of(self, path: str) -> str | None:
        """Find the path of the document that an address falls under."""
        for pattern, template in self._patterns:
            if pattern.fullmatch(path):
                return template
        return None

    def response(self, described: Mapping[str, Any]) -> Mapping[str, Any]:
        """Look up an answer that several operations share."""
        name = described.get("$ref", "").rpartition("/")[2]
        return self.document["components"]["responses"][name] if name else described

    def check(self, response: requests.Response) -> None:
        """Fail unless status, media type and shape of an answer are documented."""
        assert _REQUEST_ID.fullmatch(response.headers["X-Request-Id"])
        request = response.request
        method = (request.method or "").lower()
        path = requests.utils.unquote((request.path_url or "").split("?")[0])
        template = self.path_of(path)
        operations = self.document["paths"].get(template, {})
        described = operations.get("get" if method == "head" else method)
        if described is None:
            assert response.status_code in {401, 403, 404, 405}, f"undocumented: {method} {path}"
            assert response.headers["Content-Type"] == "application/problem+json"
            self._check_shape({"$ref": "#/components/schemas/Problem"}, response.json())
            return
        status = str(response.status_code)
        where = f"{method} {template} {status}: {response.text[:500]}"
        assert status in described["responses"], f"undocumented status: {where}"
        contents = self.response(described["responses"][status]).get("content", {})
        if not contents:
            assert response.content == b"", where
            return
        media_type = response.headers["Content-Type"].split(";")[0]
        content = contents.get(media_type, contents.get("*/*"))
        assert content is not None, f"undocumented type {media_type}: {where}"
        if method != "head" and "json" in media_type and "schema" in content:
            self._check_shape(content["schema"], response.json())

    def _check_shape(self, schema: Mapping[str, Any], instance: Any) -> None:
        # only what a schema can refer to: the validator walks through all of it each time
        whole = {**schema, "components": {"schemas": self.document["components"]["schemas"]}}
        Draft202012Validator(whole, format_checker=FormatChecker()).validate(instance)


def _segment(match: re.Match[str]) -> str:
    """Let the agent of /status, and pages of the web UI, have slashes in them, as falcon does."""
    is_rest = "path" in match[1] or match.string.startswith("/status/")
    return ".*" if is_rest else "[^/]+"


class Api:
    """A server's API, as a test talks to it: with the token, and every answer checked."""

    def __init__(self, server: RunningServer, contract: Contract) -> None:
        self.server = server
        self.contract = contract

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        response = self.server.request(method, path, allow_redirects=False, **options)
        self.contract.check(response)
        return response

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.request("POST", path, **options)

    def upload(self, data: bytes) -> dict[str, Any]:
        """Upload a package and give its document."""
        response = self.post("/v1/packages", data=data, headers=ZIP)
        assert response.status_code in {200, 201}, response.text
        document: dict[str, Any] = response.json()
        return document

    def deploy(self, data: bytes, **options: Any) -> dict[str, Any]:
        """Deploy a package as the body of one held request, and give its deployment."""
        params = {"wait": 60, **options}
        response = self.post("/v1/deployments", data=data, headers=ZIP, params=params)
        if response.status_code == 202:  # others hold as many requests as this key may
            address = f"/v1/deployments/{response.json()['id']}"
            wait_until(lambda: self.get(address).json()["status"] not in {"queued", "running"})
            response = self.get(address)
            assert response.json()["status"] == "succeeded", response.text
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document


ZIP: Final = {"Content-Type": "application/zip"}


def problem(response: requests.Response, status: int, code: str) -> dict[str, Any]:
    """Give a problem document, after a look at its status, its type and its code."""
    assert (response.status_code, response.headers["Content-Type"]) == (
        status,
        "application/problem+json",
    ), response.text
    document: dict[str, Any] = response.json()
    assert (document["status"], document["code"]) == (status, code), response.text
    assert document["request_id"] == response.headers["X-Request-Id"]
    return document
