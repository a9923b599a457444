"""Calls about agents: how they are, and what they are told to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deployer.client import deploys, follows, nouns
from deployer.client.calls.asking import ACT_SECONDS, PAGE, REMOVAL_SECONDS, Asking, agent_path
from deployer.client.sub_agents import sub_agent_table
from deployer.errors import WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class AgentCalls(Asking):
    """What may be asked about agents, and of them."""

    def agents(self) -> list[nouns.Agent]:
        """List all agents."""
        return self._list(nouns.Agent, "/v1/agents", "agents")

    def agent(self, name: str) -> nouns.Agent:
        """Look at one agent."""
        return nouns.Agent.read(self._get(agent_path(name)))

    def sub_agent(self, name: str) -> str:
        """Write the table ``[sub_agents.NAME]`` of an agent.toml that leads ATOLL to an agent.

        Returns:
            TOML, with the host on which this client reaches the server unless the settings name
            another one.

        Raises:
            NotInstalledError: The agent has no port yet.
        """
        return sub_agent_table(self.agent(name))

    def wait(
        self, name: str, *, status: str = "running", timeout_seconds: float = ACT_SECONDS
    ) -> nouns.Agent:
        """Wait until an agent has a status.

        Raises:
            WaitTimeoutError: It has another one after timeout_seconds.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = deadline - time.monotonic()
            hold = max(1, min(deploys.LONGEST_HOLD_SECONDS, int(left)))
            params = {"status": status, "timeout": hold}
            try:
                return nouns.Agent.read(self._get(agent_path(name, "wait"), params, hold))
            except WaitTimeoutError:
                if left <= deploys.LONGEST_HOLD_SECONDS:
                    raise

    def start(
        self, name: str, *, wait_seconds: float = ACT_SECONDS, key: str | None = None
    ) -> nouns.Connection:
        """Start an agent's current release and wait until it is healthy.

        Args:
            name: The agent's.
            wait_seconds: How long to wait, at most 120; after it the answer says ``starting``.
            key: The Idempotency-Key, for who may ask again after their own death; None: a new one.

        Raises:
            AgentBusyError: Somebody else is at work on it.
            StartError: It did not come up, with the reason.
        """
        return nouns.Connection.read(
            self._act(agent_path(name, "start"), wait_seconds=wait_seconds, key=key)
        )

    def stop(
        self, name: str, *, wait_seconds: float = ACT_SECONDS, key: str | None = None
    ) -> nouns.Connection:
        """Stop an agent and wait until its process is gone.

        Takes and raises what `start` does.
        """
        return nouns.Connection.read(
            self._act(agent_path(name, "stop"), wait_seconds=wait_seconds, key=key)
        )

    def restart(
        self, name: str, *, wait_seconds: float = ACT_SECONDS, key: str | None = None
    ) -> nouns.Connection:
        """Stop an agent, start it again, and wait until it is healthy.

        Takes and raises what `start` does.
        """
        return nouns.Connection.read(
            self._act(agent_path(name, "restart"), wait_seconds=wait_seconds, key=key)
        )

    def kill(
        self, name: str, *, wait_seconds: float = ACT_SECONDS, key: str | None = None
    ) -> nouns.Connection:
        """End an agent's process at once, whatever else is under way.

        Takes and raises what `start` does.
        """
        return nouns.Connection.read(
            self._act(agent_path(name, "kill"), wait_seconds=wait_seconds, key=key)
        )

    def remove(
        self, name: str, *, keep_data: bool = False, wait_seconds: float = REMOVAL_SECONDS
    ) -> None:
        """Stop an agent and delete all of it, but for its data when that is to be kept.

        Args:
            name: The agent's.
            keep_data: Leave its data directory for a later agent of this name.
            wait_seconds: How long to wait until it is gone.

        Raises:
            AgentBusyError: Somebody else is at work on it.
            WaitTimeoutError: It is still there after wait_seconds.
        """
        params = {"keep_data": "true" if keep_data else "false"}
        self._remove(agent_path(name), name, wait_seconds, params)

    def why(self, name: str) -> nouns.Why:
        """Ask why an agent is as it is."""
        return nouns.Why.read(self._get(agent_path(name, "why")))

    def logs(
        self,
        name: str,
        *,
        stream: str = "stdout",
        tail: int = PAGE,
        after: str | None = None,
        wait_seconds: float = 0,
    ) -> nouns.Logs:
        """Read the last lines of a log, or those that were written after some.

        Args:
            name: The agent's.
            stream: stdout, stderr or install.
            tail: How many lines.
            after: The `next` of former ones; then all that one release has written since.
            wait_seconds: How long to wait for such, at most 20.
        """
        hold = max(0, min(deploys.LONGEST_HOLD_SECONDS, int(wait_seconds)))
        params = {"stream": stream, "tail": tail, "after": after, "wait": hold}
        return nouns.Logs.read(self._get(agent_path(name, "logs"), params, hold))

    def follow_logs(
        self,
        name: str,
        *,
        stream: str = "stdout",
        tail: int = PAGE,
        on_note: Callable[[str], None] | None = None,
    ) -> Iterator[str]:
        """Give the last lines of a log and then each new one, from release to release.

        No line is lost and none comes twice, whatever restarts, also the server. Ends when the
        agent is removed, or when the caller stops asking.

        Args:
            name: The agent's.
            stream: stdout, stderr or install.
            tail: How many lines to begin with.
            on_note: Is told in words when another release goes on, and where lines may be missing.
        """
        params = {"stream": stream, "tail": tail}
        for part in follows.logs(self._session, agent_path(name, "logs"), params):
            if part.note and on_note is not None:
                on_note(part.note)
            yield from part.lines
