"""What a deployment would do: found out by the ways that it would go, without going them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deployer import disks, ports
from deployer.environments import Environments
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import Lock, Pin, read_lock
from deployer.errors import AgentUnknownError, RequestInvalidError
from deployer.launches import port_wishes, read_manifest, requirements_of
from deployer.model import Agent, Package, Release, Strategy
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.scan_reports import ScanReport
from deployer.scans import Scans

_RESOLVE_SECONDS: Final = 110.0
"""Less than the longest wait of a request, which is 120 s."""

_PREPARE: Final = ("validate", "unpack", "install", "scan")
_BRING_UP: Final = ("start", "health_check")
_FINISH: Final = ("activate", "retire")


@dataclass(frozen=True, slots=True)
class Change:
    """A dependency that would have another version.

    Attributes:
        name: In PyPI's normal form.
        before: Its version in the current release, or the address it came from.
        after: The same of the new one.
    """

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Dependencies:
    """How the dependencies would differ from those of the current release.

    Attributes:
        lock_reused: Whether an earlier resolution would be repeated.
        added: ``name==version`` each; all of them for a first deployment.
        removed: The same.
        changed: Those with another version.
        unchanged: How many are the same.
        cached: Whether nothing would have to be downloaded; None: there is nothing to install, or
            the installer cannot tell.
        environment_reused: Whether an environment that is there would be shared: nothing would be
            installed.
    """

    lock_reused: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Change, ...]
    unchanged: int
    cached: bool | None
    environment_reused: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What deploying a package would do, as far as that can be told now.

    Attributes:
        package: What would be deployed.
        current: The release that is live now; None for a first deployment.
        strategy: How the new one would take over.
        python: The interpreter it would get.
        python_changed: Whether the current release has another one.
        dependencies: How they would differ.
        code_bytes: What the unpacked package would take.
        environment_bytes: What its environment may take: as much as the current release's; None
            when there is none to go by.
        free_bytes: What the disk has left.
        port: The port that it would ask for.
        port_kept: Whether clients know the agent by that port already.
        restarts: Whether a process that runs now would be replaced.
        missing_secrets: Why secrets that it refers to cannot be given to it: it would fail.
        vulnerabilities: Those known of what would be installed.
        steps: Those of the deployment, in their order; none when the package is live already.
    """

    package: Package
    current: Release | None
    strategy: Strategy
    python: Interpreter
    python_changed: bool
    dependencies: Dependencies
    code_bytes: int
    environment_bytes: int | None
    free_bytes: int
    port: int
    port_kept: bool
    restarts: bool
    missing_secrets: tuple[str, ...]
    vulnerabilities: ScanReport
    steps: tuple[str, ...]


class Plans:
    """Tells what deployments would do; changes nothing but what the installer keeps in its cache.

    A plan takes no lock and leases nothing: what it says holds for the moment.
    """

    def __init__(self, parts: Parts, environments: Environments, runs: Runs, scans: Scans) -> None:
        """Work with the parts of one server."""
        self._scans = scans
        self._state = parts.state
        self._settings = parts.settings
        self._reader_uid = parts.isolation.reader_uid
        self._store = parts.store
        self._files = parts.files
        self._environments = environments
        self._runs = runs
        self._secrets = parts.secrets
        self._trust = parts.trust

    def plan(self, name: str, package: Package, strategy: Strategy) -> Plan:
        """Say what deploying a package, and starting it, would do.

        Args:
            name: The agent that it is meant for, which need not be there yet.
            package: An uploaded one.
            strategy: How it would take over.

        Raises:
            AgentUnknownError: There is no such agent, nor is the package one of that name.
            RequestInvalidError: The package is another agent's.
            SignatureMissingError: It must be signed, and is not.
            SignatureInvalidError: It must be signed by a trusted key, and is by another.
            EntryPointMissingError: There is nothing to start it with any more.
            InterpreterUnavailableError: There is none that fits.
            ResolutionError: Its requirements cannot be met.
            InstallError: They could not be looked at, or not in time.
            NoFreePortError: Every port is taken.
        """
        agent = self._store.agents.find(name)
        _require_same_name(name, package, is_known=agent is not None)
        self._trust.require_vouched(package.agent, package.version, package.sha256)
        current = None
        if agent is not None and agent.current is not None:
            current = self._store.releases.get(name, agent.current)
        lock = None if current is None else self._lock(current)
        requirements = requirements_of(package, self._settings)
        python = self._environments.choose_python(
            read_manifest(package.manifest).dependencies.python,
            uid=self._reader_uid,
        )
        is_live = current is not None and current.sha256 == package.sha256
        serving = current if current is not None and self._runs.is_serving(current) else None
        if is_live:
            pins = () if lock is None else lock.pins
            dependencies = _compare(lock, pins, lock_reused=True)
        else:
            resolved = self._environments.resolve(
                requirements,
                python,
                log=Path(os.devnull),
                earlier_locks=self._files.locks(self._store.releases.of_agent(name)),
                timeout_seconds=_RESOLVE_SECONDS,
            )
            pins = resolved.pins
            dependencies = _compare(
                lock,
                pins,
                lock_reused=resolved.lock_reused,
                cached=resolved.cached,
                environment_reused=resolved.environment_reused,
            )
        is_held = serving is not None and strategy is Strategy.PARALLEL and not is_live
        port = self._port(package, agent, None if is_held else current)
        return Plan(
            package=package,
            current=current,
            strategy=strategy,
            python=python,
            python_changed=not is_live and _is_other_python(current, lock, python),
            dependencies=dependencies,
            code_bytes=0 if is_live else package.unpacked_bytes,
            environment_bytes=0
            if dependencies.environment_reused
            else self._environment_bytes(current),
            free_bytes=disks.free_bytes(self._state.root),
            port=port,
            port_kept=agent is not None and agent.port == port,
            restarts=serving is not None and not is_live,
            missing_secrets=tuple(map(str, self._secrets.find_problems(name, package.manifest))),
            vulnerabilities=self._scans.scan_packages([pin.named for pin in pins]),
            steps=() if is_live else _steps(package, strategy, is_serving=serving is not None),
        )

    def _lock(self, release: Release) -> Lock | None:
        return read_lock(self._state.requirements_lock(release.agent, release.number))

    def _environment_bytes(self, current: Release | None) -> int | None:
        if current is None:
            return None
        return disks.tree_bytes(self._files.environment(current))

    def _port(self, package: Package, agent: Agent | None, makes_way: Release | None) -> int:
        """Choose as a deployment would, which frees the port of what makes way before."""
        former = None if agent is None else agent.port
        lease = None if makes_way is None else self._store.leases.of_program(makes_way.program)
        own = None if lease is None else lease.port
        leased = {lease.port for lease in self._store.leases.all()}
        return ports.choose_port(
            self._settings.agent_ports,
            leased - {own},
            preferred=port_wishes(self._settings, package.agent, package.manifest, former),
            is_free=lambda port: (
                port == own or ports.can_bind(port, host=self._settings.bind_address)
            ),
        )


def _require_same_name(name: str, package: Package, *, is_known: bool) -> None:
    if package.agent == name:
        return
    if not is_known:
        raise AgentUnknownError(
            f"cannot plan for agent {name}: there is none, and the package is one of"
            f" {package.agent}",
            cause=f"No such agent: {name}",
            hint=f"ask for /v1/agents/{package.agent}/plan",
        )
    raise RequestInvalidError(
        f"cannot plan for {name}: package {package.md5} is one of agent {package.agent}, and a"
        " deployment goes by the name in the package",
        cause=f"the package is one of {package.agent}",
        hint=f"ask for /v1/agents/{package.agent}/plan, or name a package of {name}",
    )


def _is_other_python(current: Release | None, lock: Lock | None, python: Interpreter) -> bool:
    """Tell whether the current release has another interpreter, or one that was another then."""
    if current is None:
        return False
    was_other = lock is not None and lock.inputs.python != python.version
    return current.python != str(python.path) or was_other


def _compare(
    lock: Lock | None,
    pins: tuple[Pin, ...],
    *,
    lock_reused: bool,
    cached: bool | None = None,
    environment_reused: bool = True,
) -> Dependencies:
    before = {} if lock is None else {pin.named[0]: pin for pin in lock.pins}
    after = {pin.named[0]: pin for pin in pins}
    both = sorted(before.keys() & after.keys())
    changed = [name for name in both if before[name].named != after[name].named]
    return Dependencies(
        lock_reused=lock_reused,
        added=tuple(after[name].requirement for name in sorted(after.keys() - before.keys())),
        removed=tuple(before[name].requirement for name in sorted(before.keys() - after.keys())),
        changed=tuple(
            Change(name, before[name].named[1], after[name].named[1]) for name in changed
        ),
        unchanged=len(both) - len(changed),
        cached=cached,
        environment_reused=environment_reused,
    )


def _steps(package: Package, strategy: Strategy, *, is_serving: bool) -> tuple[str, ...]:
    """List the steps that `Deployments` takes; a test holds the two to each other."""
    soak = ("soak",) if read_manifest(package.manifest).deployment.min_healthy_seconds else ()
    take_over: tuple[str, ...] = (*_BRING_UP, *soak)
    if is_serving and strategy is Strategy.REHEARSE:
        take_over = (*_BRING_UP, *soak, "stop", *_BRING_UP)
    elif is_serving and strategy is Strategy.REPLACE:
        take_over = ("stop", *_BRING_UP, *soak)
    return (*_PREPARE, *take_over, *_FINISH)
