"""A drop-in for ATOLL's own deployment client: the same names, arguments and results.

    from deployer.client.atoll import DeploymentClient      # instead of ATOLL's

    client = DeploymentClient("http://127.0.0.1:8080", api_key="...")
    answer = await client.deploy_agent(Path("greeter.zip"))
    answer = client.deploy_agent_sync(Path("greeter.zip"))  # the same without a loop

What is different is better, and changes nothing for who did not rely on the defect:

- It can show a key. ATOLL's client cannot, and talks to servers with ``--auth none`` only.
- ``deploy_agent(path)`` works with its default; ATOLL's raises TypeError unless force is a number.
- A package is read as it is sent, so it may be larger than the memory.
- Errors are those of `deployer.errors`, with cause, hint and evidence, instead of aiohttp's with a
  status and a phrase; ``error.document["status"]`` has the status.
- What does no more when it is sent twice is tried again when the connection breaks.
"""

from __future__ import annotations

import asyncio
import io
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote

from deployer.client.archives import Upload
from deployer.client.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

Answer = dict[str, Any]

_HOLD_SECONDS: Final = 30
"""How long the server holds these requests at most, and a little more."""


class DeploymentClient:
    """ATOLL's calls: coroutines, and for each one the same that blocks until it is answered.

    A call has a connection of its own, so calls may be made at once, from any thread.

    Attributes:
        base_url: The server's address.
        timeout: Seconds for one answer, beyond those that the server holds a request.
    """

    def __init__(self, base_url: str, timeout: float = 30, api_key: str | None = None) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            base_url: Such as ``http://127.0.0.1:8080``.
            timeout: Seconds for one answer, beyond those that the server holds a request.
            api_key: What STATE/token holds on the server; None for a server without keys.

        Raises:
            ServerUnreachableError: The address cannot be one.
        """
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self._api_key = api_key
        self._session().close()

    async def health_check(self) -> Answer:
        """Ask whether the server is there.

        Returns:
            ``{"status": "healthy", "version", "auth_enabled", "metrics_enabled"}``
        """
        return await asyncio.to_thread(self.health_check_sync)

    async def list_agents(self) -> list[Answer]:
        """List all agents.

        Returns:
            ``{"name", "status", "port", "pid", "checksum", "config_path"}`` each, the status one of
            discovered, starting, running, stopped and failed.
        """
        return await asyncio.to_thread(self.list_agents_sync)

    async def check_agent(self, checksum: str) -> Answer:
        """Ask whether a package is installed and current.

        Args:
            checksum: The MD5 of the ZIP's bytes, in hex.

        Returns:
            ``{"exists": True, "name", "status", "port", "running"}``, or
            ``{"exists": False, "message"}``
        """
        return await asyncio.to_thread(self.check_agent_sync, checksum)

    async def deploy_agent(self, package_path: Path, force: bool | int | str = False) -> Answer:  # noqa: FBT001, FBT002 - as ATOLL has it
        """Install a package, without starting it; on an agent that runs, deploy it in full.

        Args:
            package_path: A ZIP file.
            force: Install it even if it is current already.

        Returns:
            ``{"status": "deployed" | "already_installed", "name", "checksum", "config_path",
            "message"}``; or, when it takes longer than 25 s, the status ``deploying`` with a
            ``status_url``.

        Raises:
            FileNotFoundError: There is no such file.
            PackageInvalidError: The server refuses it; every problem is listed.
        """
        return await asyncio.to_thread(self.deploy_agent_sync, package_path, force)

    async def start_agent(self, agent_name: str) -> Answer:
        """Start an agent and wait until it is healthy.

        Returns:
            ``{"status": "started", "name", "port", "pid"}``, of the process that runs already too.

        Raises:
            StartError: It did not come up, with the reason.
        """
        return await asyncio.to_thread(self.start_agent_sync, agent_name)

    async def stop_agent(self, agent_name: str) -> Answer:
        """Stop an agent; one that is stopped stays so.

        Returns:
            ``{"status": "stopped", "name"}``
        """
        return await asyncio.to_thread(self.stop_agent_sync, agent_name)

    async def restart_agent(self, agent_name: str) -> Answer:
        """Stop an agent and start it again.

        Returns:
            ``{"status": "restarted", "name", "port", "pid"}``
        """
        return await asyncio.to_thread(self.restart_agent_sync, agent_name)

    async def get_agent_status(self, agent_name: str) -> Answer:
        """Look at one agent.

        Returns:
            ``{"name", "status", "port", "pid", "checksum", "start_time", "restart_count",
            "health_status", "error_message"}``

        Raises:
            AgentUnknownError: There is none of this name.
        """
        return await asyncio.to_thread(self.get_agent_status_sync, agent_name)

    def health_check_sync(self) -> Answer:
        """Do what `health_check` does."""
        return self._call("GET", "/health")

    def list_agents_sync(self) -> list[Answer]:
        """Do what `list_agents` does."""
        agents: list[Answer] = self._call("GET", "/agents").get("agents", [])
        return agents

    def check_agent_sync(self, checksum: str) -> Answer:
        """Do what `check_agent` does."""
        return self._call("POST", "/check", params={"checksum": checksum}, is_idempotent=True)

    def deploy_agent_sync(self, package_path: Path, force: bool | int | str = False) -> Answer:  # noqa: FBT001, FBT002 - as ATOLL has it
        """Do what `deploy_agent` does."""
        with _form(Path(package_path)) as (body, content_type):
            return self._call(
                "POST",
                "/deploy",
                params={"force": int(force) if isinstance(force, bool) else force},
                body=body,
                headers={"Content-Type": content_type},
                is_idempotent=not force,  # a second time it is installed already
            )

    def start_agent_sync(self, agent_name: str) -> Answer:
        """Do what `start_agent` does."""
        return self._act("start", agent_name, is_idempotent=True)

    def stop_agent_sync(self, agent_name: str) -> Answer:
        """Do what `stop_agent` does."""
        return self._act("stop", agent_name, is_idempotent=True)

    def restart_agent_sync(self, agent_name: str) -> Answer:
        """Do what `restart_agent` does."""
        return self._act("restart", agent_name, is_idempotent=False)

    def get_agent_status_sync(self, agent_name: str) -> Answer:
        """Do what `get_agent_status` does."""
        return self._call("GET", f"/status/{quote(agent_name, safe='')}")

    def _act(self, verb: str, agent_name: str, *, is_idempotent: bool) -> Answer:
        media = {"agent_name": agent_name}
        return self._call("POST", f"/{verb}", media=media, is_idempotent=is_idempotent)

    def _call(self, method: str, path: str, **options: Any) -> Answer:
        with closing(self._session()) as session:
            reply = session.call(method, path, hold_seconds=_HOLD_SECONDS, **options)
        return dict(reply.document)

    def _session(self) -> Session:
        return Session(self.base_url, self._api_key, timeout_seconds=self.timeout)


@contextmanager
def _form(package: Path) -> Iterator[tuple[Upload, str]]:
    """Open a package as the form in which ATOLL sends it, with its type.

    Raises:
        OSError: The file cannot be read.
    """
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{quote(package.name)}"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    ).encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    with package.open("rb") as file:
        whole = _Joined(io.BytesIO(head), file, io.BytesIO(tail))
        yield (
            Upload(whole, whole.size_bytes, lambda _: None),
            (f"multipart/form-data; boundary={boundary}"),
        )


class _Joined:
    """Several files read as one."""

    def __init__(self, *files: BinaryIO) -> None:
        self._files = files
        self._place = 0
        self.size_bytes = sum(file.seek(0, io.SEEK_END) for file in files)
        self.seek(0)

    def seek(self, offset: int, /) -> int:
        """Go back to the beginning, the only place that can be gone to."""
        for file in self._files:
            file.seek(offset)
        self._place = 0
        return 0

    def read(self, size: int = -1, /) -> bytes:
        while self._place < len(self._files):
            if chunk := self._files[self._place].read(size):
                return chunk
            self._place += 1
        return b""
