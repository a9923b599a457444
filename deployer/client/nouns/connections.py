"""Where an agent is, as a frozen noun."""

from __future__ import annotations

from dataclasses import dataclass

from deployer.client.answers import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection(Answer):
    """Where an agent is, for those who want to call it.

    Attributes:
        name: The agent's.
        status: The agent's status word.
        host: What to connect to, as seen from this client.
        port: A TCP port.
        url: Both, as an address.
        pid: Of the agent's process.
        release: The number of the release that runs.
        version: As its manifest says.
        checksum: The MD5 of its package.
    """

    name: str
    status: str
    host: str = ""
    port: int | None = None
    url: str | None = None
    pid: int | None = None
    release: int | None = None
    version: str = ""
    checksum: str = ""
