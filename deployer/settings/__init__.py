"""The server's settings: what they are called, what they may be, and where they come from.

The command line beats ``ATOLL_DEPLOYER_*`` variables, and those beat the file. A file is JSON with
comments (JSON5) or, with the suffix ``.toml``, TOML; its keys stand at the top or below
``deployment_server``, as in the configuration file of ATOLL, whose spellings are understood.
Whatever is wrong is told at once, each problem with its place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from deployer.complaints import dotted, problems_of
from deployer.errors import SettingsInvalidError
from deployer.model import HealthCheck, RestartPolicy
from deployer.quantities import Bytes, Count, Flag, Number, PortNumber, Seconds, Whole
from deployer.server_log import LogFormat, LogLevel
from deployer.settings.access import (
    UNIX_PROXY,
    CertificateSettings,
    Proxy,
    SocketMode,
    reaches_loopback,
)
from deployer.settings.addresses import (
    AbsolutePath,
    Address,
    Listening,
    Url,
    absolute,
    is_loopback,
    socket_path,
    without_login,
)
from deployer.settings.installs import PYPI, InstallSettings, Moment
from deployer.settings.isolation import IsolationSettings
from deployer.settings.scans import ScanSettings
from deployer.settings.sections import Section
from deployer.settings.sources import Key, Sources
from deployer.settings.trust import TrustSettings

SECRETS: Final = ("password",)
"""Keys whose values never enter a message."""

_MIB: Final = 1024**2
_GIB: Final = 1024**3


def default_state_dir() -> Path:
    """Choose where the state lies when nobody says: below the home, or ``/var/lib`` as root."""
    if os.geteuid() == 0:
        return Path("/var/lib/atoll-deployer")
    return Path("~/.atoll-deployer").expanduser().resolve()


class PythonSettings(Section):
    """Where interpreters for agents come from.

    Attributes:
        search: Directories to look in before PATH.
        downloads: Whether the installer may fetch an interpreter that is missing.
    """

    search: tuple[AbsolutePath, ...] = ()
    downloads: Flag = False


class LimitSettings(Section):
    """How much the server takes.

    Attributes:
        upload_bytes: The size of one ZIP.
        entries: Files and folders in one ZIP.
        file_bytes: The size of one unpacked file.
        total_bytes: The size of all unpacked files of one ZIP.
        ratio: Unpacked to packed bytes of one file; asked of files above 10 MiB only.
        depth: Folders inside each other.
        free_bytes: What must be left on the disk, or no environment is made.
        install_seconds: How long an installation may take before it is given up.
        log_bytes: The size of a log file before it is rotated.
        log_backups: How many rotated files are kept of each log.
        wrong_keys: Wrong keys from one address in a minute before it is told to wait.
        log_bytes_per_second: How fast an agent may write its logs for good.
        log_burst_seconds: For how long twice as fast, before it counts as a flood.
        log_flood: What then becomes of it: it waits in its writes, or is stopped. A supervisord
            without our plugin cannot make it wait: there it is stopped in any case.
        disk_seconds: Seconds between two looks at what agents have on the disk.
        disk_over: What becomes of an agent over its limit there: it is told, or stopped as well.
        agent_memory: Main memory of an agent whose manifest says nothing; nothing: no limit.
        agent_cpus: The same for cores.
        agent_pids: The same for processes and threads.
        agent_disk: The same for what lies in the directories that it may write.
        mechanisms: What may hold agents to their limits; what works here is used, the first best.
        waiting_requests: Held or streaming requests at once; one key has half of them at most. More
            than 16 count as 16, as the others need threads too.
        atoll_wait_seconds: How long a request of ATOLL's client is held; it gives up after 30.
    """

    upload_bytes: Bytes = 512 * _MIB
    entries: Count = 10_000
    file_bytes: Bytes = 1 * _GIB
    total_bytes: Bytes = 2 * _GIB
    ratio: Annotated[Number, Field(ge=1)] = 200.0
    depth: Annotated[Whole, Field(ge=1, le=64)] = 64
    free_bytes: Bytes = 256 * _MIB
    install_seconds: Seconds = 600.0
    log_bytes: Bytes = 10 * _MIB
    log_backups: Annotated[Whole, Field(ge=0, le=1000)] = 3
    wrong_keys: Count = 20
    log_bytes_per_second: Bytes = 1 * _MIB
    log_burst_seconds: Seconds = 5.0
    log_flood: Literal["throttle", "stop"] = "throttle"
    disk_seconds: Seconds = 60.0
    disk_over: Literal["warn", "stop"] = "warn"
    agent_memory: Bytes | None = None
    agent_cpus: Annotated[Number, Field(gt=0, le=4096)] | None = None
    agent_pids: Count | None = 4096
    agent_disk: Bytes | None = None
    mechanisms: tuple[Literal["cgroup2", "cgroup1", "rlimits"], ...] = (
        "cgroup2",
        "cgroup1",
        "rlimits",
    )
    waiting_requests: Count = 16
    atoll_wait_seconds: Seconds = 25.0


class DefaultSettings(Section):
    """What holds for an agent whose manifest says nothing.

    Attributes:
        auto_restart: Start an agent again that died by itself (ATOLL: ``restart_on_failure``).
        max_restarts: Restarts within a minute before it is left alone for longer and longer.
        restart_delay: Seconds before the second restart in a row; doubled for each after it.
        health_check_interval: Seconds between two health checks.
    """

    auto_restart: Flag = True
    max_restarts: Annotated[Whole, Field(ge=0, le=1_000_000)] = 3
    restart_delay: Annotated[Number, Field(ge=0, le=3600)] = 5.0
    health_check_interval: Seconds = 30.0

    @property
    def restart_policy(self) -> RestartPolicy:
        """The same as a noun, for `Manifest.restart_policy`."""
        return RestartPolicy(
            enabled=self.auto_restart,
            max_restarts=self.max_restarts,
            delay_seconds=self.restart_delay,
            max_delay_seconds=max(RestartPolicy().max_delay_seconds, self.restart_delay),
        )

    @property
    def health_check(self) -> HealthCheck:
        """The same as a noun, for `Manifest.health_check`."""
        return HealthCheck(interval_seconds=self.health_check_interval)


class SupervisorSettings(Section):
    """A supervisord that is there already and is to be used instead of our own.

    Attributes:
        url: Its XML-RPC, ``unix:///run/supervisor.sock`` or ``http://127.0.0.1:9001``.
        conf_d: The directory that its ``[include]`` reads.
        username: What its HTTP server asks for.
        password: The same; never shown.
    """

    url: Url | None = None
    conf_d: AbsolutePath | None = None
    username: str | None = None
    password: str | None = Field(default=None, repr=False)


class PortPreference(BaseModel):
    """An agent of ATOLL's configuration file: only the port that it would like is read.

    Attributes:
        name: The agent's.
        port: What it gets if it is free, has had no other, and its manifest asks for none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=255)]
    port: Annotated[Whole, Field(ge=0, le=65535)] | None = None


class Settings(Section):
    """Everything an operator can choose.

    Attributes:
        state_dir: Where everything lies; absolute, without symlinks.
        host: The address that the API binds, or ``unix:/PATH``.
        api_port: The port of the API.
        agent_base_port: The first port for agents.
        max_agents: How many agents there may be, and how many ports.
        auth: Whether clients need a key; ``none`` is taken only while nobody but this machine
            can reach `host`.
        socket_mode: Who may call where `host` is a Unix socket: the server's user, its group too,
            or everybody here.
        trusted_proxies: Whose word is taken on where a request came from, and on certificates:
            addresses, networks, or ``unix`` for who calls by the Unix socket.
        client_certificates: What their holders may do; the first that fits counts.
        agent_host: The host in the addresses of agents; nothing: the one that the client called.
        agent_bind: The address that agents bind; nothing: 127.0.0.1 while the API is on loopback
            or on a Unix socket, else 0.0.0.0.
        runtime_requirements: What starts packages without an entry point, such as ATOLL itself;
            installed beside the requirements of those, and of no others.
        index_url: The package index; nothing: the installer's own, PyPI.
        extra_index_urls: Asked before `index_url`; the first that knows a name decides.
        find_links: Directories or addresses with wheels.
        installer: What resolves and installs.
        exclude_newer: An RFC 3339 date; dependencies uploaded later do not exist.
        install: What may be installed.
        lock_max_age_seconds: How long a lock is used again for equal requirements.
        cache_dir: The installer's cache; nothing: in the state directory.
        python: Where interpreters come from.
        limits: How much the server takes.
        defaults: For manifests that say nothing.
        isolation: How well agents must be kept apart.
        supervisor: A foreign supervisord.
        trust: Whose packages are taken.
        scan: Who looks into a release before it runs.
        log_format: How lines of the server's own log are written: for people, or as JSON.
        log_level: The least that is written there.
        agents: ATOLL's list of agents; read for the ports that they would like, never as state.
        events_kept: Lines of the timeline before the oldest go.
        events_days: How old a line of the timeline may become.
        audit_days: How old an entry of the audit may become; 0: as old as it likes.
        releases_kept: The newest releases of an agent that stay; the current one and the one
            before it stay in any case.
        packages_kept_hours: How long an uploaded package stays that no release was made from.
    """

    state_dir: AbsolutePath = Field(default_factory=default_state_dir)
    host: Listening = "127.0.0.1"
    api_port: PortNumber = 8080
    agent_base_port: PortNumber = 8100
    max_agents: Annotated[Count, Field(validate_default=True)] = 100
    auth: Literal["token", "none"] = "token"
    socket_mode: SocketMode = "0600"
    trusted_proxies: tuple[Proxy, ...] = ()
    client_certificates: tuple[CertificateSettings, ...] = ()
    agent_host: Address | None = None
    agent_bind: Address | None = None
    runtime_requirements: tuple[str, ...] = ()
    index_url: Url | None = None
    extra_index_urls: tuple[Url, ...] = ()
    find_links: tuple[str, ...] = ()
    installer: Literal["uv", "pip"] = "uv"
    exclude_newer: Moment | None = None
    install: Annotated[InstallSettings, Field(validate_default=True)] = InstallSettings()
    lock_max_age_seconds: Annotated[Number, Field(ge=0)] = 86400.0
    cache_dir: AbsolutePath | None = None
    python: PythonSettings = PythonSettings()
    limits: LimitSettings = LimitSettings()
    defaults: DefaultSettings = DefaultSettings()
    isolation: IsolationSettings = IsolationSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    trust: TrustSettings = TrustSettings()
    scan: ScanSettings = ScanSettings()
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    agents: tuple[PortPreference, ...] = ()
    events_kept: Count = 10_000
    events_days: Annotated[Whole, Field(ge=1, le=36_500)] = 90
    audit_days: Annotated[Whole, Field(ge=0, le=36_500)] = 365
    releases_kept: Annotated[Whole, Field(ge=2, le=1000)] = 5
    packages_kept_hours: Annotated[Whole, Field(ge=1, le=876_000)] = 24

    @field_validator("max_agents")
    @classmethod
    def _ports_fit(cls, count: int, info: ValidationInfo) -> int:
        base, api = info.data.get("agent_base_port"), info.data.get("api_port")
        if base is None or api is None:  # wrong themselves, and told already
            return count
        if base + count - 1 > 65535:  # noqa: PLR2004  # the last TCP port there is
            raise ValueError(
                f"must be at most {65536 - base}, not {count}: agents' ports start at {base}"
            )
        if base <= api < base + count:
            raise ValueError(
                f"agents' ports {base}-{base + count - 1} must not hold the API's own, {api}"
            )
        return count

    @field_validator("auth")
    @classmethod
    def _open_only_to_ourselves(cls, auth: str, info: ValidationInfo) -> str:
        host = info.data.get("host")
        if auth == "none" and host is not None and not is_loopback(host):
            raise ValueError(
                f"must be 'token' while host is {host!r}: "
                "without a token only this machine may reach the API"
            )
        return auth

    @field_validator("client_certificates")
    @classmethod
    def _certificates_cannot_be_made_up(
        cls, rules: tuple[CertificateSettings, ...], info: ValidationInfo
    ) -> tuple[CertificateSettings, ...]:
        proxies = info.data.get("trusted_proxies")
        if not rules or proxies is None or info.data.get("auth") is None:
            return rules
        if info.data["auth"] == "none":
            raise ValueError("must be empty while auth is 'none': everybody may do everything")
        if not proxies:
            raise ValueError("must be empty while no trusted_proxies say who showed one")
        # Agents are strangers' programs, and all of them can connect from there.
        nearby = [each for each in proxies if each != UNIX_PROXY and reaches_loopback(each)]
        if nearby:
            raise ValueError(
                f"must not be believed from {', '.join(nearby)}: every agent on this machine could"
                " say there who it is; listen on a Unix socket (host = 'unix:/PATH',"
                " trusted_proxies = ['unix']), or run the proxy on another machine"
            )
        return rules

    @field_validator("find_links")
    @classmethod
    def _links_absolute(cls, links: tuple[str, ...]) -> tuple[str, ...]:
        # The installer runs in an empty directory, where a relative path means nothing.
        return tuple(link if "://" in link else str(absolute(Path(link))) for link in links)

    @field_validator("install")
    @classmethod
    def _indexes_allowed(cls, install: InstallSettings, info: ValidationInfo) -> InstallSettings:
        given = info.data
        extra, links = given.get("extra_index_urls") or (), given.get("find_links") or ()
        foreign = install.foreign([given.get("index_url") or PYPI, *extra, *links])
        if foreign:
            shown = ", ".join(without_login(url) for url in foreign)
            raise ValueError(f"allowed_indexes does not allow {shown}")
        if given.get("installer") == "pip" and extra:
            # pip takes the highest version of all indexes: a public name would beat a private one.
            raise ValueError("extra_index_urls need uv: pip cannot hold names to their first index")
        if install.allow_sdist and (given.get("installer") == "pip" or extra):
            raise ValueError("allow_sdist needs uv, and goes with no extra_index_urls")
        if install.allow_sdist and install.require_hashes:
            # What a build itself installs has no hash that an author could give.
            raise ValueError("allow_sdist and require_hashes exclude each other")
        return install

    @property
    def api_socket(self) -> Path | None:
        """The Unix socket that the API listens on; None: a port."""
        return socket_path(self.host)

    @property
    def agent_ports(self) -> range:
        """The ports that agents are given."""
        return range(self.agent_base_port, self.agent_base_port + self.max_agents)

    @property
    def bind_address(self) -> str:
        """What agents bind: this machine only as long as the API does so too."""
        return self.agent_bind or ("127.0.0.1" if is_loopback(self.host) else "0.0.0.0")  # noqa: S104  # whoever opens the API means its agents to be reached as well

    @property
    def port_preferences(self) -> dict[str, int]:
        """The port that ATOLL's configuration file gives an agent, by its name."""
        return {agent.name: agent.port for agent in self.agents if agent.port}

    def to_json(self) -> str:
        """Write everything, resolved, for STATE/settings.json; it holds secrets."""
        return self.model_dump_json(indent=2)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `to_json` wrote.

        Raises:
            SettingsInvalidError: Somebody else wrote it.
            OSError: It cannot be read.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            problems = problems_of(error, where=lambda at: f"{path}: {dotted(at)}", secrets=SECRETS)
            raise SettingsInvalidError(
                f"cannot read {path}: {problems[0]}", problems=problems
            ) from error


def keys() -> dict[Key, Any]:
    """List every setting by its path, ``("limits", "upload_bytes")``, with its type."""
    listed: dict[Key, Any] = {}
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            inner = info.annotation.model_fields.items()
            listed |= {(name, word): field.annotation for word, field in inner}
        else:
            listed[(name,)] = info.annotation
    return listed


def load_settings(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Settings:
    """Read the settings from where they come from.

    Args:
        config: The configuration file, if there is one.
        environ: All variables; those that begin with ``ATOLL_DEPLOYER_`` are read.
        overrides: What the command line says, by dotted key; None where it says nothing.

    Returns:
        The settings, whole and checked.

    Raises:
        SettingsInvalidError: Something is wrong; every problem is listed.
    """
    sources = Sources(keys())
    if config is not None:
        sources.add_file(config)
    sources.add_variables(environ)
    sources.add_options(overrides)
    problems = tuple(sources.problems)
    try:
        settings = Settings.model_validate(sources.document())
    except ValidationError as error:
        problems += problems_of(error, where=sources.where, secrets=SECRETS)
    else:
        if not problems:
            return settings
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise SettingsInvalidError(
        f"cannot use these settings: {problems[0]}{more}",
        cause=str(problems[0]),
        hint="correct what is listed; nothing was started",
        problems=problems,
    )
