"""The command line: thin commands over the client, and `serve`.

What is heavy to import (requests, rich, pydantic, the server) is imported by the commands that
need it, so that help and completion come at once.
"""

from __future__ import annotations

import click

from deployer import __version__
from deployer.cli import (
    agent_secrets,
    agents,
    checks,
    completions,
    doctor,
    keys,
    logs,
    overviews,
    packages,
    releases,
    servers,
    signatures,
    starters,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="atoll-deployer")
def main() -> None:
    """Install, run and update ATOLL agents on one machine.

    `serve` starts a server and `doctor` checks its machine; all other commands talk to one. The
    server of this machine is found by its state directory; name another with --server and --token,
    or with the variables ATOLL_DEPLOYER_SERVER and ATOLL_DEPLOYER_TOKEN.

    Exit codes: 0 done, 1 failed, 2 usage or settings, 3 no server there, 4 refused.
    """


for module in (
    servers,
    starters,
    packages,
    checks,
    signatures,
    overviews,
    agents,
    releases,
    agent_secrets,
    logs,
    keys,
    doctor,
    completions,
):
    for command in module.COMMANDS:
        main.add_command(command)
