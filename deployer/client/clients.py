"""The client: one method an operation of the REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from deployer.client.calls.agents import AgentCalls
from deployer.client.calls.deployments import DeploymentCalls
from deployer.client.calls.keys import KeyCalls
from deployer.client.calls.machine import MachineCalls
from deployer.client.calls.packages import PackageCalls
from deployer.client.calls.releases import ReleaseCalls
from deployer.client.calls.secrets import SecretCalls
from deployer.client.sessions import Session

if TYPE_CHECKING:
    from types import TracebackType


class Client(
    MachineCalls, PackageCalls, DeploymentCalls, AgentCalls, ReleaseCalls, KeyCalls, SecretCalls
):
    """One deployment server, as seen by those who use it.

    Every method asks the server once, or as often as its sentence says, and raises what the
    server raised: the classes of `deployer.errors`, and ServerUnreachableError when there is no
    answer. What does no more when it is sent twice is sent again when the connection breaks or the
    server says when to come again: all that only looks, PUT and DELETE, and acts, which carry an
    Idempotency-Key for that. Every wait has an end. Not for several threads at once; a client is
    cheap, make one for each.
    """

    def __init__(self, url: str, token: str | None = None, timeout_seconds: float = 30) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            url: Such as ``http://127.0.0.1:8080``.
            token: What STATE/token holds on the server; None for a server without tokens.
            timeout_seconds: For one answer, beyond the time that a method says it waits.
        """
        self._session = Session(url, token, timeout_seconds=timeout_seconds)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._session.url

    def __enter__(self) -> Self:
        """Use the client until the block ends."""
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the connections."""
        self.close()

    def twin(self) -> Self:
        """Make another client of the same server, for another thread."""
        twin = type(self).__new__(type(self))
        twin._session = self._session.twin()  # noqa: SLF001 - our own
        return twin

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()
