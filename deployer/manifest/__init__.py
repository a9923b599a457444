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
    """``[agent]``: who it is and what is started."""

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
        python: A version specifier of PEP 440; None: any.
        packages: Requirements of PEP 508; `deployer.requirements` judges them.
    """

    python: PythonVersions | None = None
    packages: tuple[str, ...] = ()


class ResourcesTable(Table):
    """``[resources]``: what the agent may use.

    Attributes:
        cpu_limit: Cores, such as 0.5.
        memory_limit: Bytes of main memory.
        pids_limit: Processes and threads.
        disk_limit: Bytes in the directories that the agent may write.
        max_concurrent_requests: The agent's own business; shown.
        health_check_interval: Seconds.
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
        port: The port that the agent would like; 0: any of the server's.
        auto_restart: Whether it is started again when it dies by itself.
        max_restarts: Restarts within the window before it is left alone.
        restart_delay: Seconds.
        strategy: How a new release takes over; None: the server's choice.
        rehearse_data: Rehearse with the real data directory instead of an empty one.
        socket: ``inherit``: the agent takes a listening socket over instead of binding one.
        min_healthy_seconds: How long a new release must stay healthy before it takes over.
        stop_seconds: From SIGTERM to SIGKILL.
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
        path: An HTTP path; empty: the port accepts a connection.
        start_seconds: Until the first good answer.
        interval_seconds: Between two questions.
        timeout_seconds: For one answer.
        failures: Bad answers in a row.
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
