"""An example of each document that the API answers with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import BaseModel

from deployer.api import documents
from deployer.api.documents import atoll
from deployer.api.documents.limits import Limit, Mechanism
from deployer.isolation_levels import IsolationLevel
from deployer.keys import Scope
from deployer.model import DeploymentStatus, Desired, Outcome, ReleaseStatus, Strategy
from deployer.scan_reports import ScanStatus, Severity
from deployer.statuses import AgentStatus

MD5: Final = "5bd0388fb100a0a1383298ab45c2418d"
SHA256: Final = "0f6a4ba3c1de2c0f3b1bd5c3b7a5f1f6a0d64cf8a2a4a2f0c3d1e9b7a5938271"
_PYTHON: Final = "/usr/bin/python3.12"
_STATE: Final = "/var/lib/atoll-deployer"
_CONFIG: Final = f"{_STATE}/agents/greeter/releases/2/code/agent.toml"
_NOON: Final = datetime(2026, 3, 6, 12, 0, tzinfo=UTC)
_MIB: Final = 1024 * 1024


def _after(seconds: float) -> datetime:
    return _NOON + timedelta(seconds=seconds)


def _step(name: str, begin: float, end: float, message: str = "") -> documents.Step:
    return documents.Step(
        name=name,
        outcome=Outcome.DONE,
        started_at=_after(begin),
        ended_at=_after(end),
        duration_seconds=round(end - begin, 3),
        message=message,
    )


_SIGNATURE: Final = documents.Signature(
    key="E7620F1842B4E81F", comment="agent:greeter\tversion:1.1.0", trusted=True
)
_SCAN: Final = documents.Scan(
    scanner="sources",
    status=ScanStatus.FINDINGS,
    findings=[
        documents.Finding(
            rule="process-at-import",
            file="main.py",
            line=7,
            message="starts a process while it is imported",
            severity=Severity.MEDIUM,
        )
    ],
    reason="",
)
_CONNECTION: Final = documents.Connection(
    name="greeter",
    status=AgentStatus.RUNNING,
    host="deployer.example",
    port=8100,
    url="http://deployer.example:8100",
    pid=2229,
    release=2,
    version="1.1.0",
    checksum=MD5,
)
_AGENT: Final = documents.Agent(
    name="greeter",
    status=AgentStatus.RUNNING,
    desired=Desired.RUNNING,
    release=2,
    previous_release=1,
    version="1.1.0",
    checksum=MD5,
    host="deployer.example",
    port=8100,
    url="http://deployer.example:8100",
    pid=2229,
    program="greeter--2",
    started_at=_after(1.2),
    restarts=0,
    next_try_at=None,
    health=documents.Health(
        healthy=True,
        degraded=False,
        detail="HTTP 200",
        seconds=0.004,
        checked_at=_after(60),
        bad_answers=0,
    ),
    usage=documents.Usage(
        cpus=0.02,
        memory_bytes=48 * _MIB,
        processes=1,
        pids=3,
        disk_bytes=4096,
        measured_at=_after(60),
    ),
    limits=documents.Limits(
        memory=Limit(limit=512 * _MIB, mechanism="cgroup2", hard=True),
        cpu=Limit(limit=1.5, mechanism="cgroup2", hard=True),
        pids=Limit(limit=200, mechanism="cgroup2", hard=True),
        disk=Limit(limit=None, mechanism="watchdog", hard=False),
        clamped=[],
    ),
    isolation=IsolationLevel.FULL,
    last_error="",
    secrets_changed=False,
)
_DEPLOYMENT: Final = documents.Deployment(
    id="12",
    agent="greeter",
    package=MD5,
    sha256=SHA256,
    signature=_SIGNATURE,
    release=2,
    is_rollback=False,
    strategy=Strategy.REPLACE,
    start=True,
    force=False,
    status=DeploymentStatus.SUCCEEDED,
    created_at=_NOON,
    started_at=_NOON,
    ended_at=_after(1.3),
    duration_seconds=1.3,
    steps=[
        _step("validate", 0.0, 0.1, "Python 3.12.3"),
        _step("unpack", 0.1, 0.12, "release 2"),
        _step("install", 0.12, 0.5, "Python 3.12.3, 1 package, by an earlier lock, 0.14 s"),
        _step("scan", 0.5, 0.6),
        _step("stop", 0.6, 0.7, "release 1 stopped"),
        _step("start", 0.7, 0.8, "port 8100, pid 2229"),
        _step("health_check", 0.8, 1.2, "HTTP 200"),
        _step("activate", 1.2, 1.25, "release 2 serves on port 8100, pid 2229"),
        _step("retire", 1.25, 1.3),
    ],
    scans=[_SCAN],
    failure=None,
    connection=_CONNECTION,
    agent_url="/v1/agents/greeter",
)
_PACKAGE: Final = documents.Package(
    md5=MD5,
    sha256=SHA256,
    size_bytes=2433,
    agent="greeter",
    version="1.1.0",
    received_at=_NOON,
    signature=_SIGNATURE,
)
_RELEASE: Final = documents.Release(
    number=2,
    status=ReleaseStatus.PROVEN,
    current=True,
    previous=False,
    version="1.1.0",
    checksum=MD5,
    sha256=SHA256,
    python=_PYTHON,
    created_at=_NOON,
    rollback_ready=True,
    signature=_SIGNATURE,
    scans=[_SCAN],
    manifest={"agent": {"name": "greeter", "version": "1.1.0"}, "llm": {"model": "llama3.1"}},
)
_KEY: Final = documents.Key(
    id="k4m2",
    name="ci",
    scope=Scope.DEPLOY,
    agents=["web-*"],
    created_at=_NOON,
    expires_at=_after(90 * 86_400),
    last_used_at=None,
    is_local=False,
)
_SECRET: Final = documents.Secret(
    name="api-token", agents=["billing-*"], created_at=_NOON, changed_at=_NOON, problem=""
)
_HARD: Final = Mechanism(mechanism="cgroup2", hard=True)
_WIRE_AGENT: Final = atoll.WireAgent(
    name="greeter", status="running", port=8100, pid=2229, checksum=MD5, config_path=_CONFIG
)

_EXAMPLES: Final[tuple[BaseModel, ...]] = (
    _AGENT,
    _CONNECTION,
    _DEPLOYMENT,
    _KEY,
    _PACKAGE,
    _RELEASE,
    _SECRET,
    documents.AgentList(agents=[_AGENT], count=1, next=None),
    documents.DeploymentList(deployments=[_DEPLOYMENT], count=1, next="12"),
    documents.KeyList(keys=[_KEY], count=1, next=None),
    documents.NewKey(**_KEY.model_dump(), key="atoll_k4m2_EXAMPLE-ONLY-SHOWN-ONCE"),
    documents.ReleaseList(releases=[_RELEASE], count=1, next=None),
    documents.SecretList(secrets=[_SECRET], count=1, next=None),
    documents.Liveness(status="alive"),
    documents.Readiness(
        status="ready",
        checks=[
            documents.Check(name="database", ok=True, detail=""),
            documents.Check(name="supervisord", ok=True, detail=""),
        ],
    ),
    documents.AuditList(
        entries=[
            documents.AuditEntry(
                id=71,
                at=_NOON,
                who="key:k4m2",
                name="ci",
                source="192.0.2.7",
                operation="POST /v1/deployments",
                agent="greeter",
                target="12",
                status=202,
                request_id="6f1d2c0b9a8e4f7d8c3b2a1908f7e6d5",
                times=1,
            )
        ],
        count=1,
        next=None,
    ),
    documents.EventList(
        events=[
            documents.Event(
                id=40,
                at=_after(1.25),
                agent="greeter",
                kind="agent.started",
                message="release 2 of greeter serves on port 8100",
            )
        ],
        count=1,
        next="40",
    ),
    documents.Logs(
        agent="greeter",
        stream=documents.LogStream.STDOUT,
        release=2,
        lines=["listening on 127.0.0.1:8100"],
        gap=False,
        next="2.1f4c.28",
    ),
    documents.Why(
        agent="greeter",
        status=AgentStatus.FAILED,
        cause="ModuleNotFoundError: No module named 'reqests'",
        hint="read its log, mend the package and push it again, or roll back",
        evidence=["ModuleNotFoundError: No module named 'reqests'"],
        deployment=None,
        secrets_changed=False,
    ),
    documents.Plan(
        agent="greeter",
        package=MD5,
        version="1.1.0",
        release=1,
        strategy=Strategy.REHEARSE,
        python=documents.PlannedPython(version="3.12.3", path=_PYTHON, changed=False),
        dependencies=documents.PlannedDependencies(
            lock_reused=False,
            added=["waitress==3.0.2"],
            removed=[],
            changed=[documents.ChangedDependency(name="requests", before="2.32.3", after="2.32.5")],
            unchanged=4,
            cached=True,
            environment_reused=False,
        ),
        disk=documents.PlannedDisk(
            code_bytes=2011, environment_bytes=31_000_000, free_bytes=9_000_000_000
        ),
        port=documents.PlannedPort(number=8100, kept=True),
        restarts=True,
        missing_secrets=[],
        vulnerabilities=documents.Scan(
            scanner="advisories", status=ScanStatus.CLEAN, findings=[], reason=""
        ),
        steps=["validate", "unpack", "install", "scan", "start", "health_check", "activate"],
    ),
    documents.Ports(
        first=8100,
        last=8199,
        free=98,
        leases=[
            documents.Lease(port=8100, agent="greeter", program="greeter--2", leased_at=_NOON)
        ],
        foreign=[documents.ForeignPort(port=8180, holder="pid 812 nginx")],
    ),
    documents.Server(
        version="1.0.0",
        started_at=_NOON,
        state_dir=_STATE,
        host="127.0.0.1",
        api_port=8080,
        auth="token",
        installer="uv",
        agents=1,
        max_agents=100,
        first_port=8100,
        last_port=8199,
        supervisord="own",
        isolation=documents.Isolation(
            level=IsolationLevel.FULL,
            require=None,
            facts=[documents.IsolationFact(name="own uids", holds=True, detail="")],
        ),
        limits=documents.Mechanisms(
            memory=_HARD, cpu=_HARD, pids=_HARD, disk=Mechanism(mechanism="watchdog", hard=False)
        ),
    ),
    _WIRE_AGENT,
    atoll.WireAgents(agents=[_WIRE_AGENT], count=1),
    atoll.WireHealth(
        status="healthy",
        version="1.0.0",
        auth_enabled=True,
        metrics_enabled=True,
        isolation=IsolationLevel.FULL,
    ),
    atoll.WireFound(name="greeter", status="running", port=8100, running=True),
    atoll.WireMissing(message="Agent not found: upload it"),
    atoll.WireDeployed(
        status="deployed",
        name="greeter",
        checksum=MD5,
        config_path=_CONFIG,
        message="greeter is installed",
    ),
    atoll.WireDeploying(
        name="greeter",
        checksum=MD5,
        message="still at it: watch status_url",
        status_url="/v1/deployments/12",
    ),
    atoll.WireServing(status="started", name="greeter", port=8100, pid=2229),
    atoll.WireStopped(status="stopped", name="greeter"),
    atoll.WireStatus(
        name="greeter",
        status="running",
        port=8100,
        pid=2229,
        checksum=MD5,
        start_time=_NOON.isoformat(),
        restart_count=0,
        health_status="healthy",
        error_message=None,
    ),
    atoll.WireDiagnostics(
        agent_name="greeter",
        status="failed",
        diagnostics={
            "cause": "ModuleNotFoundError: No module named 'reqests'",
            "hint": "read its log, mend the package and push it again, or roll back",
            "desired": "running",
            "release": 2,
            "health": "unhealthy",
        },
        error_message="ModuleNotFoundError: No module named 'reqests'",
        exit_code=1,
        stdout="",
        stderr="ModuleNotFoundError: No module named 'reqests'",
        config_path=_CONFIG,
        timestamp=_NOON.isoformat(),
    ),
)

DOCUMENTS: Final[Mapping[type[BaseModel], BaseModel]] = {type(each): each for each in _EXAMPLES}
"""By their models."""

UNFINISHED: Final[Mapping[type[BaseModel], BaseModel]] = {
    documents.Connection: _CONNECTION.model_copy(
        update={"status": AgentStatus.STARTING, "pid": None, "port": None, "url": None}
    ),
    documents.Deployment: _DEPLOYMENT.model_copy(
        update={
            "status": DeploymentStatus.RUNNING,
            "ended_at": None,
            "duration_seconds": None,
            "steps": _DEPLOYMENT.steps[:2],
            "scans": [],
            "connection": None,
        }
    ),
    atoll.WireServing: atoll.WireServing(status="starting", name="greeter", port=None, pid=None),
    atoll.WireStopped: atoll.WireStopped(status="stopping", name="greeter"),
}
"""Those that are answered otherwise while an act goes on, with 202."""
