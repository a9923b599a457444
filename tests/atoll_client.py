"""ATOLL 2.0.1's own deployment client, as it was seen to behave on the wire.

A connection of its own for each call, 30 s for the whole of it, never a key; every status of 400 or
more is an exception that knows the status and the reason phrase only; an answer that does not say
that it is JSON cannot be read.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import aiohttp

Answer = dict[str, Any]


class AtollClient:
    """The calls of ``DeploymentClient``, each run to its end."""

    def __init__(self, base_url: str, timeout: float = 30) -> None:
        self._base_url = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout)

    def health_check(self) -> Answer:
        return self.call("GET", "/health")

    def list_agents(self) -> Answer:
        return self.call("GET", "/agents")

    def check_agent(self, checksum: str) -> Answer:
        return self.call("POST", "/check", params={"checksum": checksum})

    def deploy_agent(self, package: Path, force: object = 0) -> Answer:
        with package.open("rb") as file:
            form = aiohttp.FormData()
            form.add_field("file", file, filename=package.name, content_type="application/zip")
            return self.call("POST", "/deploy", data=form, params={"force": force})

    def start_agent(self, name: str) -> Answer:
        return self.call("POST", "/start", json={"agent_name": name})

    def stop_agent(self, name: str) -> Answer:
        return self.call("POST", "/stop", json={"agent_name": name})

    def restart_agent(self, name: str) -> Answer:
        return self.call("POST", "/restart", json={"agent_name": name})

    def get_agent_status(self, name: str) -> Answer:
        return self.call("GET", f"/status/{name}")

    def call(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request as the client sends all of its own."""
        return asyncio.run(self._call(method, path, **options))

    async def _call(self, method: str, path: str, **options: Any) -> Answer:
        async with (
            aiohttp.ClientSession(timeout=self._timeout) as session,
            session.request(method, f"{self._base_url}{path}", **options) as response,
        ):
            response.raise_for_status()
            answer: Answer = await response.json()
            return answer


def checksum_of(package: Path) -> str:
    """Name a package as the protocol does."""
    return hashlib.md5(package.read_bytes()).hexdigest()  # noqa: S324 - the protocol's name
