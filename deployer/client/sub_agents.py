"""What an ATOLL client writes into its agent.toml to use an agent of this server."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from deployer.errors import NotInstalledError

if TYPE_CHECKING:
    from deployer.client.nouns import Agent

HEALTH_CHECK_SECONDS: Final = 30
"""How often ATOLL asks a sub-agent whether it is there, unless told otherwise."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def sub_agent_table(agent: Agent) -> str:
    """Write the table ``[sub_agents.NAME]`` that leads to an agent.

    Args:
        agent: As the server tells of it.

    Returns:
        TOML with the members that ATOLL 2.x reads: ``url`` and ``health_check_interval`` in
        seconds. Its ``auth_token`` is the agent's own affair, and not known here.

    Raises:
        NotInstalledError: It has no port yet.
    """
    if agent.url is None:
        raise NotInstalledError(
            f"cannot write how to reach {agent.name}: it has no port yet",
            cause=f"{agent.name} has no port",
            hint=f"start it with `atoll-deployer start {agent.name}`",
        )
    # a dot in a bare key would begin another table
    key = agent.name if _BARE.fullmatch(agent.name) else json.dumps(agent.name)
    return (
        f"[sub_agents.{key}]\n"
        f"url = {json.dumps(agent.url)}\n"
        f"health_check_interval = {HEALTH_CHECK_SECONDS}\n"
    )
