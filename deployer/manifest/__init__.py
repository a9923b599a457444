"""The manifest, ``agent.toml``: the contract with the author of a package.

Section names are ATOLL's. Tables and keys that are not known here are kept and ignored, so that an
author may write for servers to come. What is known is checked strictly, and everything that is
wrong is told at once.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployer.complaints import Location, dotted, problems_of
from deployer.errors import ManifestInvalidError, Problem
from deployer.manifest.values import (
    AgentName,
    Entrypoint,
    HealthPath,
    PythonVersions,
    VariableName,
    VariableValue,
    Version,
    WantedPort,
)
from deployer.model import HealthCheck, RestartPolicy, Strategy
from deployer.notations import read_json, read_toml
from deployer.quantities import Bytes, Count, Flag, Number, Seconds, Whole

TOML_NAME: Final = "agent.toml"
JSON_NAME: Final = "agent.json"
LARGEST_MANIFEST: Final = 64 * 1024
"""Bytes."""


class Table(BaseModel):
    """A table of the manifest: frozen; keys that are not known are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class AgentTable(Table):
    """``[agent]``: who it is and what is started.

    Attributes:
        name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``, a letter or digit first. By it the
            agent is started, stopped and updated.
        version: The author's own, such as ``1.2.0``; shown, never compared.
        description: One sentence; shown.
        author: Shown.
        license: Shown.
        capabilities: What it can do, in words of ATOLL's; shown.
        entrypoint: A Python file of the package such as ``main.py``, or a module such as
            ``my_agent.server``; nothing: ``main.py``, else ``agent_implementation.py``.
    """

    name: AgentName
    version: Version = ""
    description: str = ""
    author: str = ""
    license: str = ""
    capabilities: tuple[str, ...] = ()
    entrypoint: Entrypoint | None = None


class DependenciesTable(Table):
    """``[dependencies]``: which Python, and what is added to requirements.txt.

    Attributes:
        python: A version specifier of PEP 440 such as ``>=3.9,<3.14``; ``3.11`` means
            ``==3.11.*``; nothing: any.
        packages: Requirements of PEP 508, as in requirements.txt.
    """

    python: PythonVersions | None = None
    packages: tuple[str, ...] = ()


class ResourcesTable(Table):
    """``[resources]``: what the agent may use, all of its processes together.

    Attributes:
        cpu_limit: Cores, such as 0.5; nothing: the server's ``limits.agent_cpus``.
        memory_limit: Main memory; nothing: the server's ``limits.agent_memory``.
        pids_limit: Processes and threads; nothing: the server's ``limits.agent_pids``.
        disk_limit: What lies in the directories that it may write; nothing: the server's
            ``limits.agent_disk``.
        max_concurrent_requests: ATOLL's; shown, and left to the agent.
        health_check_interval: Seconds between two health checks, where ``[health]`` says nothing.
    """

    cpu_limit: Annotated[Number, Field(gt=0, le=4096)] | None = None
    memory_limit: Bytes | None = None
    pids_limit: Annotated[Whole, Field(ge=1, le=4_194_304)] | None = None
    disk_limit: Bytes | None = None
    max_concurrent_requests: Count | None = None
    health_check_interval: Seconds | None = None


class DeploymentTable(Table):
    """``[deployment]``: how a release is started, restarted and replaced.

    Attributes:
        port: The port that the agent would like, from 1024; 0: any of the server's.
        auto_restart: Whether it is started again when it dies by itself. Where this key or one
            of the next two is not said, the server's ``defaults`` hold.
        max_restarts: Restarts within a minute before it is left alone for longer and longer.
        restart_delay: Seconds before the second restart in a row; doubled for each after it.
        strategy: How a new release takes over; nothing: ``rehearse``.
        rehearse_data: Rehearse with the real data directory instead of an empty one.
        socket: ``inherit``: the agent takes a listening socket over instead of binding one.
        min_healthy_seconds: How long a new release must stay healthy before it takes over.
        stop_seconds: Seconds from SIGTERM to SIGKILL.
    """

    port: WantedPort = 0
    auto_restart: Flag = True
    max_restarts: Annotated[Whole, Field(ge=0, le=1_000_000)] = 3
    restart_delay: Annotated[Number, Field(ge=0, le=3600)] = 5.0
    strategy: Strategy | None = None
    rehearse_data: Flag = False
    socket: Literal["inherit"] | None = None
    min_healthy_seconds: Annotated[Number, Field(ge=0, le=3600)] = 0.0
    stop_seconds: Annotated[Number, Field(gt=0, le=3600)] = 10.0


class HealthTable(Table):
    """``[health]``: the question that tells whether a release serves.

    Attributes:
        path: An HTTP path, answered with 2xx; empty: it is enough that the port accepts a
            connection.
        start_seconds: Seconds from the start until the first good answer.
        interval_seconds: Seconds between two questions; nothing: the server's
            ``defaults.health_check_interval``.
        timeout_seconds: Seconds for one answer.
        failures: Bad answers in a row before a running agent is restarted.
    """

    path: HealthPath = "/health"
    start_seconds: Annotated[Number, Field(gt=0, le=3600)] = 60.0
    interval_seconds: Annotated[Number, Field(gt=0, le=86400)] | None = None
    timeout_seconds: Annotated[Number, Field(gt=0, le=300)] = 5.0
    failures: Annotated[Whole, Field(ge=1, le=1000)] = 3


class Manifest(Table):
    """A whole manifest.

    Attributes:
        agent: Who it is and what is started.
        dependencies: Which Python and which packages.
        resources: What it may use.
        deployment: How it is started, restarted and replaced.
        health: None when the table is absent.
        env: Variables for the agent.
        llm: ATOLL's own; shown.
        mcp_servers: ATOLL's own, a table each; shown.
        sub_agents: ATOLL's own, a table each; shown.
    """

    agent: AgentTable
    dependencies: DependenciesTable = DependenciesTable()
    resources: ResourcesTable = ResourcesTable()
    deployment: DeploymentTable = DeploymentTable()
    health: HealthTable | None = None
    env: dict[VariableName, VariableValue] = Field(default_factory=dict, repr=False)
    llm: dict[str, Any] = Field(default_factory=dict)
    mcp_servers: dict[str, dict[str, Any]] = Field(default_factory=dict)
    sub_agents: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def health_check(self, default: HealthCheck = HealthCheck()) -> HealthCheck:  # noqa: B008  # frozen
        """Say how to ask whether a release serves.

        Args:
            default: What holds where the manifest says nothing.
        """
        interval = self.resources.health_check_interval or default.interval_seconds
        if self.health is None:
            return HealthCheck(
                default.path,
                default.start_seconds,
                interval,
                default.timeout_seconds,
                default.failures,
            )
        return HealthCheck(
            self.health.path or None,
            self.health.start_seconds,
            self.health.interval_seconds or interval,
            self.health.timeout_seconds,
            self.health.failures,
        )

    def restart_policy(self, default: RestartPolicy = RestartPolicy()) -> RestartPolicy:  # noqa: B008  # frozen
        """Say how often and how fast it is started again.

        Args:
            default: What holds where the manifest says nothing.
        """
        table = self.deployment
        said = table.model_fields_set
        delay = table.restart_delay if "restart_delay" in said else default.delay_seconds
        return RestartPolicy(
            enabled=table.auto_restart if "auto_restart" in said else default.enabled,
            max_restarts=table.max_restarts if "max_restarts" in said else default.max_restarts,
            delay_seconds=delay,
            window_seconds=default.window_seconds,
            max_delay_seconds=max(delay, default.max_delay_seconds),
        )

    def to_json(self) -> str:
        """Write what the author said, and only that: what was left open stays open."""
        return self.model_dump_json(exclude_unset=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ManifestInvalidError: Somebody else wrote it.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _refused(problems_of(error, where=dotted, secrets=("env",))) from error


def parse_manifest(data: bytes, filename: str = TOML_NAME) -> Manifest:
    """Read and check a manifest.

    Args:
        data: The file's bytes: UTF-8, with or without a byte order mark, at most 64 KiB.
        filename: Named in every problem; ``*.json`` is read as ATOLL's older ``agent.json``,
            with the keys of ``[agent]`` below ``agent`` or at the top.

    Returns:
        The manifest, whole and checked.

    Raises:
        ManifestInvalidError: Something is wrong; every problem is listed.
    """

    def where(location: Location) -> str:
        return f"{filename}: {dotted(location)}" if location else filename

    if len(data) > LARGEST_MANIFEST:
        message = f"must have at most {LARGEST_MANIFEST} bytes, not {len(data)}"
        raise _refused((Problem(filename, message),))
    try:
        document = _sorted_out(read_json(data)) if filename.endswith(".json") else read_toml(data)
    except ValueError as error:
        raise _refused((Problem(filename, str(error)),)) from error
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        raise _refused(problems_of(error, where=where, secrets=("env",))) from error


def _sorted_out(document: dict[str, Any]) -> dict[str, Any]:
    """Put the keys of a flat agent.json where they belong."""
    if "agent" in document:
        return document
    tables = {key: value for key, value in document.items() if key in Manifest.model_fields}
    return {**tables, "agent": {k: v for k, v in document.items() if k not in tables}}


def _refused(problems: tuple[Problem, ...]) -> ManifestInvalidError:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ManifestInvalidError(
        f"cannot use the manifest: {problems[0]}{more}",
        cause=str(problems[0]),
        problems=problems,
    )
