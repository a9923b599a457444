"""How a release is launched: what is executed, with which variables, in which place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from deployer.errors import DeployerError, EntryPointMissingError, ManifestInvalidError
from deployer.launch_policies import LaunchPolicy, Sandbox, policy_bytes
from deployer.limits.allowances import Allowance
from deployer.manifest import AgentTable, Manifest
from deployer.model import HealthCheck, Package, Release
from deployer.parts import Parts
from deployer.requirements import Rules, require_allowed
from deployer.settings import Settings
from deployer.state_dir import MARKER, PROGRAM, StateDir

_RUNNER: Final = "runner "
_SEARCH_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_THREAD_COUNTS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "GOMAXPROCS",
    "PYTHON_CPU_COUNT",  # what os.cpu_count() answers, from Python 3.13 on
)
_REHEARSAL_PORTS: Final = 100
_EPHEMERAL_PORTS: Final = range(32768, 61000)
_LAST_PORT: Final = 65535
_NO_SANDBOX: Final = Sandbox()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a release runs.

    Attributes:
        ports: What it may listen on, in the order to try.
        wishes: Tried first, as far as they are among ports.
        data: Its data directory and HOME.
        tmp: Its TMPDIR.
        run: For its sockets.
        is_live: False: a rehearsal, of which nothing is remembered.
    """

    ports: Sequence[int]
    wishes: tuple[int, ...]
    data: Path
    tmp: Path
    run: Path
    is_live: bool = True


@lru_cache(maxsize=4096)
def read_manifest(text: str) -> Manifest:
    """Read a manifest that a release keeps; they are asked for at every health check."""
    return Manifest.from_json(text)


def manifest_of(release: Release) -> Manifest:
    """Read a release's manifest, or a bare one if its row is damaged.

    Such a release is not started any more, but what runs of it is shown and stopped all the same.
    """
    try:
        return read_manifest(release.manifest)
    except ManifestInvalidError:
        return Manifest(agent=AgentTable(name=release.agent))


def health_check_of(release: Release, settings: Settings) -> HealthCheck:
    """Say how a release is asked: as its manifest says, else as the settings do."""
    return read_manifest(release.manifest).health_check(settings.defaults.health_check)


def requirements_of(package: Package, settings: Settings) -> tuple[str, ...]:
    """Say what to install: what the package asks for, and the runner if that is to start it.

    Raises:
        RequirementsInvalidError: The settings have become stricter since it was uploaded.
        EntryPointMissingError: The runner is to start it, and is not to be had any more.
    """
    require_allowed(package.requirements, requirement_rules(settings))
    if not package.entry_point.startswith(_RUNNER):
        return package.requirements
    if not settings.runtime_requirements:
        raise EntryPointMissingError(
            f"cannot start {package.agent}: the package brings no script, and the settings name"
            " no runtime_requirements any more",
            cause="no entry point",
            hint="add a main.py to the package, or runtime_requirements to the settings",
        )
    return (*package.requirements, *settings.runtime_requirements)


def requirement_rules(settings: Settings) -> Rules:
    """Say what the settings ask of requirements."""
    install = settings.install
    return Rules(
        require_hashes=install.require_hashes,
        allow_direct_urls=install.allow_direct_urls,
        allowed_indexes=install.allowed_indexes,
    )


def live_place(
    state: StateDir, settings: Settings, release: Release, *, former_port: int | None
) -> Place:
    """Say where a release serves: on the port that its agent had, with the agent's own data.

    Args:
        state: Of this server.
        settings: Of this server.
        release: What runs there.
        former_port: What clients know the agent by; None when it never had one.
    """
    return Place(
        ports=settings.agent_ports,
        wishes=port_wishes(settings, release.agent, release.manifest, former_port),
        data=state.agent_data(release.agent),
        tmp=state.agent_tmp(release.agent),
        run=state.agent_run(release.agent),
    )


def port_wishes(
    settings: Settings, agent: str, manifest: str, former_port: int | None
) -> tuple[int, ...]:
    """List the ports that an agent asks for, the dearest first: had, declared, preferred."""
    wishes = (
        former_port,
        read_manifest(manifest).deployment.port,
        settings.port_preferences.get(agent),
    )
    return tuple(wish for wish in wishes if wish)


def rehearsal_place(state: StateDir, settings: Settings, release: Release) -> Place:
    """Say where a release rehearses: on a port that no client knows, with empty data of its own.

    The ports come after the agents' range, without those that the kernel hands out for outgoing
    connections.
    """
    after = range(settings.agent_ports[-1] + 1, _LAST_PORT + 1)
    ports = [port for port in after if port not in _EPHEMERAL_PORTS and port != settings.api_port]
    scene = state.rehearsal(release.agent, release.number)
    keeps_data = read_manifest(release.manifest).deployment.rehearse_data
    return Place(
        ports=ports[:_REHEARSAL_PORTS],
        wishes=(),
        data=state.agent_data(release.agent) if keeps_data else scene / "data",
        tmp=scene / "tmp",
        run=scene / "run",
        is_live=False,
    )


def launch_policy(
    parts: Parts,
    release: Release,
    place: Place,
    port: int,
    *,
    inherits_from: str = "",
    sandbox: Sandbox = _NO_SANDBOX,
) -> LaunchPolicy:
    """Write down how a release is launched.

    Args:
        parts: Of this server.
        release: What is launched.
        place: Where.
        port: The leased port.
        inherits_from: The numeric host whose listening socket it is given; empty: it binds one.
        sandbox: What it can reach.

    Raises:
        SecretUnavailableError: It refers to a secret that it cannot be given.
    """
    state, limiter = parts.state, parts.limiter
    variables = parts.secrets.variables_of(release)
    manifest = read_manifest(release.manifest)
    allowance = limiter.allow(manifest)
    venv = parts.files.environment(release)
    return LaunchPolicy(
        program=release.program,
        executable=venv / "bin" / "python",
        arguments=_arguments(release.entry_point, port),
        directory=state.code(release.agent, release.number),
        port=port,
        variables={
            "PATH": f"{venv / 'bin'}:{_SEARCH_PATH}",
            "VIRTUAL_ENV": str(venv),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",  # or what it prints reaches the log only when it ends
            "HOME": str(place.data),
            "USER": release.agent,  # for whoever asks by name: its uid has no entry in passwd
            "LOGNAME": release.agent,
            "TMPDIR": str(place.tmp),
            "ATOLL_AGENT_NAME": release.agent,
            PROGRAM: release.program,
            "ATOLL_AGENT_DATA_DIR": str(place.data),
            **_thread_counts(allowance),
            **variables,
            "HOST": parts.settings.bind_address,
            MARKER: str(state.root),
        },
        stop_seconds=manifest.deployment.stop_seconds,
        resources=limiter.limit_run(release.program, allowance, port),
        inherits_from=inherits_from,
        sandbox=sandbox,
    )


def _thread_counts(allowance: Allowance) -> dict[str, str]:
    """Tell libraries how many threads are of use: by themselves they count the machine's CPUs."""
    if allowance.cpus is None:
        return {}
    return dict.fromkeys(_THREAD_COUNTS, str(math.ceil(allowance.cpus)))


def find_obstacle(parts: Parts, release: Release, *, anew: bool = False) -> str:
    """Say why a release could not be launched as it was before; empty when it could.

    Its files are as they were installed, its interpreter is there, and its program config and
    launch policy can be made and are read as they are meant.

    Args:
        parts: Of this server.
        release: Any release.
        anew: Read every file again, also those that look as they did when last read.
    """
    breach = parts.files.find_breach(release, anew=anew)
    if breach:
        return breach
    try:
        place = live_place(parts.state, parts.settings, release, former_port=None)
        policy = launch_policy(parts, release, place, place.ports[0])
        parts.programs.render(policy)
        policy_bytes(policy)
    except DeployerError as error:
        return error.cause or error.detail
    return ""


def _arguments(entry_point: str, port: int) -> tuple[str, ...]:
    """Say what the release's Python is given, as the agent's author or ATOLL's runner expects."""
    kind, _, value = entry_point.partition(" ")
    if kind == "script":
        return (value,)
    if kind == "module":
        return ("-m", value)
    return ("-m", "atoll", "--server", "--port", str(port), "--agent", value)
