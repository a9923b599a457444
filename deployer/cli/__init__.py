"""The command line: thin commands over the client, and `serve`.

A command's module is imported when the command is asked for, and what is heavy (requests, pydantic,
the server) by the commands that need it: who lists agents does not wait for what deploys them.
"""

from __future__ import annotations

from typing import Final

import click

from deployer import __version__
from deployer.cli.lazy_groups import LazyGroup

_SECTIONS: Final = {
    "The server": {
        "serve": "servers:serve",
        "doctor": "doctor:doctor",
        "ports": "servers:ports",
        "secrets": "agent_secrets:secrets",
        "keys": "keys:keys",
        "supervisorctl": "servers:supervisorctl",
        "completion": "completions:completion",
    },
    "Packages": {
        "init": "starters:init",
        "check": "checks:check",
        "push": "packages:push",
        "plan": "packages:plan",
        "pack": "checks:pack",
        "keygen": "signatures:keygen",
        "sign": "signatures:sign",
        "verify": "signatures:verify",
    },
    "Agents": {
        "list": "overviews:list_agents",
        "top": "overviews:top",
        "status": "agents:status",
        "show": "agents:show",
        "open": "agents:open_address",
        "start": "agents:start",
        "stop": "agents:stop",
        "restart": "agents:restart",
        "kill": "agents:kill",
        "wait": "agents:wait",
        "releases": "releases:releases",
        "rollback": "releases:rollback",
        "remove": "agents:remove",
    },
    "What happened": {
        "why": "logs:why",
        "logs": "logs:logs",
        "events": "logs:events",
        "audit": "keys:audit",
    },
}


@click.group(
    cls=LazyGroup, sections=_SECTIONS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="atoll-deployer")
def main() -> None:
    """Install, run and update ATOLL agents on one machine.

    `serve` starts a server and `doctor` checks its machine; all other commands talk to one. The
    server of this machine is found by its state directory; name another with --server and --token,
    or with the variables ATOLL_DEPLOYER_SERVER and ATOLL_DEPLOYER_TOKEN.

    Exit codes: 0 done, 1 failed, 2 usage or settings, 3 no server there, 4 refused.
    """
