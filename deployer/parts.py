"""The adapters of one server, made once by the composition root and shared by all sequences."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployer.agent_locks import AgentLocks
from deployer.agent_secrets import AgentSecrets
from deployer.environments.compilations import Compilations
from deployer.environments.shared import SharedEnvironments
from deployer.instruments import Instruments
from deployer.isolation import Isolation
from deployer.limits.breaches import Breaches
from deployer.limits.limiters import Limiter
from deployer.limits.usages import Usages
from deployer.limits.verdicts import Verdicts
from deployer.processes import ProcessTable
from deployer.programs import Programs
from deployer.readings import Readings
from deployer.releases import ReleaseFiles
from deployer.retries import Retries
from deployer.settings import Settings
from deployer.starts import Starts
from deployer.state_dir import StateDir
from deployer.store import Store
from deployer.supervisord import Supervisord
from deployer.trust import Trust


@dataclass(frozen=True, slots=True)
class Parts:
    """What sequences work with.

    Attributes:
        settings: The server's.
        state: Where everything lies.
        store: What is known.
        isolation: How agents are kept apart.
        files: Release directories and archives.
        programs: Program configs and launch policies.
        supervisord: The one that runs the agents.
        processes: What it last said.
        trust: Which packages may be deployed.
        limiter: Holds agents to what they may use.
        usages: What agents use.
        secrets: What agents are given as they are launched.
        shared: Environments that releases have in common.
        readings: What agents last answered.
        locks: Who is at work on which agent.
        retries: When agents that failed are tried again.
        starts: The queue of starts and stops that the server makes by itself, a few at a time.
        compilations: Bytecode of environments, made in the background.
        breaches: Which agents are over a limit that does not end them.
        verdicts: Why this server ended a run.
        instruments: What is measured while it happens.
    """

    settings: Settings
    state: StateDir
    store: Store
    isolation: Isolation
    files: ReleaseFiles
    programs: Programs
    supervisord: Supervisord
    processes: ProcessTable
    trust: Trust
    limiter: Limiter
    usages: Usages
    secrets: AgentSecrets
    shared: SharedEnvironments
    readings: Readings = field(default_factory=Readings)
    locks: AgentLocks = field(default_factory=AgentLocks)
    retries: Retries = field(default_factory=Retries)
    starts: Starts = field(default_factory=Starts)
    compilations: Compilations = field(default_factory=Compilations)
    breaches: Breaches = field(default_factory=Breaches)
    verdicts: Verdicts = field(default_factory=Verdicts)
    instruments: Instruments = field(default_factory=Instruments)
