"""The composition root: all parts of one server, wired together and served by waitress."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from deployer import __version__, local_keys, server_log
from deployer.agent_secrets import AgentSecrets
from deployer.agents import Agents
from deployer.api.app import create_app
from deployer.api.callers import Callers
from deployer.api.readiness import ReadinessChecks
from deployer.api.refusals import Refusals
from deployer.api.services import Services, Waiting
from deployer.api.throttles import Throttle
from deployer.api.web_listeners import THREADS, listen
from deployer.build_sites import source_builds
from deployer.copyists import Copyist
from deployer.deployments import Deployments
from deployer.environments import Environments, InstallerSettings, SharedEnvironments
from deployer.errors import DeployerError, ServeRefusedError, SupervisordRefusedError
from deployer.explanations import Explanations
from deployer.floods import Floods
from deployer.intents import Intents
from deployer.isolation import find_isolation
from deployer.isolation_levels import IsolationLevel
from deployer.leftovers import end_leftovers, end_processes_of
from deployer.limits.limiters import Limiter
from deployer.limits.usages import Usages
from deployer.metrics import Metrics
from deployer.monitor import Monitor
from deployer.parts import Parts
from deployer.plans import Plans
from deployer.processes import ProcessTable
from deployer.programs import Programs
from deployer.quotas import Quotas
from deployer.reconciler import Reconciler
from deployer.recovery import Recovery
from deployer.releases import ReleaseFiles
from deployer.retention import Retention
from deployer.runs import Runs
from deployer.salvage import Salvage
from deployer.scans import Scans
from deployer.settings import Settings
from deployer.startup import prepare, require_isolation, url_of
from deployer.state_dir import StateDir
from deployer.store import Store, now
from deployer.store.copies import restore
from deployer.supervisord import Supervisord, connect
from deployer.supervisord_confs import Credentials, read_credentials
from deployer.trust import Trust
from deployer.watchdog import Watchdog
from deployer.worker import Worker

_log: Final = logging.getLogger("deployer.server")  # also when it is started as __main__

_SUPERVISORD_SECONDS: Final = 30.0
_PARENT_SECONDS: Final = 0.5


def serve_beside(settings: Settings) -> None:
    """Prepare the state directory and be the API of a supervisord that is there already.

    Args:
        settings: As resolved, with that supervisord's URL.

    Raises:
        ServeRefusedError: The server cannot start here; nothing was started.
    """
    state = prepare(settings)
    require_isolation(state, settings)
    server_log.begin(settings.log_format, settings.log_level)
    _log.info("ATOLL Deployment Server %s, state in %s", __version__, state.root)
    Server(settings).run()


class Server:
    """One API process."""

    def __init__(self, settings: Settings) -> None:
        """Make every part; nothing runs before `run`."""
        self._settings = settings
        self._state = StateDir(settings.state_dir)
        tempfile.tempdir = str(self._state.tmp)  # where waitress spools uploads
        self._url, self._credentials = _way_to_supervisord(self._state, settings)
        supervisord = _connect(self._url, self._credentials, settings)
        self._damage = restore(
            self._state.database,
            self._state.database_copy,
            is_missed=any(self._state.agents.glob("*/releases/*")),
        )
        store = Store(self._state.database)
        isolation = find_isolation(self._state, settings.isolation)
        own_uids = isolation.agent_uids is not None
        limiter = Limiter(self._state, settings.limits, own_uids=own_uids)
        parts = Parts(
            settings=settings,
            state=self._state,
            store=store,
            isolation=isolation,
            files=ReleaseFiles(self._state),
            programs=Programs(
                self._state,
                conf_d=settings.supervisor.conf_d,
                log_bytes=settings.limits.log_bytes,
                log_backups=settings.limits.log_backups,
            ),
            supervisord=supervisord,
            processes=ProcessTable(supervisord.states, supervisord.find),
            trust=Trust(settings.trust, self._state),
            limiter=limiter,
            usages=Usages(self._state.root),
            secrets=AgentSecrets(store, self._state),
            shared=SharedEnvironments(self._state.environments),
        )
        runs = Runs(parts)
        environments = Environments(
            installer_settings(settings),
            source_builds(self._state, isolation, limiter)
            if settings.install.allow_sdist
            else None,
            parts.shared if isolation.shares_environments else None,
        )
        scans = Scans(settings.scan, self._state.tmp)
        deployments = Deployments(parts, environments, runs, scans)
        agents = Agents(parts, runs)
        intents = Intents(parts, runs)
        self._parts = parts
        self._worker = Worker(parts, deployments, agents)
        self._copyist = Copyist(parts)
        self._reconciler = Reconciler(parts, runs, agents, intents)
        self._monitor = Monitor(parts, runs, agents, intents, self._reconciler.wake)
        self._watchers = (
            Watchdog(parts, runs),
            Floods(parts, agents),
            Quotas(parts, runs, agents),
            Retention(parts),
        )
        self._recovery = Recovery(parts, runs, deployments, agents, intents)
        self._readiness = ReadinessChecks(parts)
        waiting = Waiting(min(settings.limits.waiting_requests, THREADS // 2))
        self._services = Services(
            parts=parts,
            agents=agents,
            explanations=Explanations(parts, runs),
            worker=self._worker,
            plans=Plans(parts, environments, runs, scans),
            waiting=waiting,
            callers=_callers(parts),
            refusals=Refusals(parts.store.audit.add),
            metrics=Metrics(parts, agents, held=lambda: waiting.held, held_limit=waiting.limit),
            started_at=now(),
            checks=self._readiness.look,
        )

    def run(self) -> None:
        """Serve until SIGTERM or Ctrl-C."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        app = create_app(self._services, self._url, self._credentials)
        listener = listen(app, self._services)
        threading.Thread(target=self._recover, name="recovery", daemon=True).start()
        if self._settings.supervisor.url is None:
            threading.Thread(target=self._watch_parent, name="parent", daemon=True).start()
        self._warn()
        _log.info("serving on %s", url_of(self._settings))
        with contextlib.suppress(SystemExit):
            listener.run()
        self._close()

    def _close(self) -> NoReturn:
        """End this process, every part before those that it works with."""
        self._copyist.close()
        self._reconciler.close()
        for watcher in self._watchers:
            watcher.close()
        self._monitor.close()
        self._worker.close()
        self._services.refusals.flush()
        self._parts.store.close()
        # Threads that wait for an agent would keep the interpreter from ending for a minute; what
        # they were at is journaled, and the next process goes on from there.
        logging.shutdown()
        os._exit(0)

    def _warn(self) -> None:
        """Say in the log what is open: what `serve` printed nobody may have seen."""
        isolation = self._parts.isolation
        if isolation.level is IsolationLevel.FULL:
            _log.info("isolation %s", isolation.level)
        else:
            _log.warning("isolation is only %s: %s", isolation.level, isolation.shortcomings)
        if self._settings.auth == "none":
            others = "no agent, but" if isolation.knows_callers else "every agent, and"
            _log.warning("no key is asked for: %s whoever else gets here may do everything", others)

    def _end(self, _number: int, _frame: FrameType | None) -> NoReturn:
        self._services.waiting.close()  # or waitress waits 5 s for those who hold a request
        raise SystemExit(0)

    def _recover(self) -> None:
        """Set right what the last process left, and only then say that work is taken.

        Whatever goes wrong on the way, agents that should run are brought up.
        """
        for step, act in (
            ("watch", self._watch),
            ("ask supervisord what runs", self._parts.processes.refresh),
            ("salvage", self._salvage),
            ("tidy", self._recovery.tidy),
            ("keep the database's copy", self._copyist.start),
            ("say that work is taken", self._readiness.recovered.set),
            ("go on with what was queued", self._worker.resume),
            ("bring agents back", self._recovery.bring_back),
            ("look after them", self._reconciler.start),
        ):
            try:
                act()
            except Exception as error:  # noqa: BLE001 - what follows is done all the same
                _log.exception("cannot %s", step)
                self._readiness.unrecovered.append(f"cannot {step}: {error}")

    def _watch(self) -> None:
        self._monitor.start()
        for watcher in self._watchers:
            watcher.start()

    def _salvage(self) -> None:
        if self._damage:
            _log.error("%s", self._damage)
            Salvage(self._parts).run(self._damage)

    def _watch_parent(self) -> None:
        """End with supervisord: alone, nobody would supervise the agents, or restart us."""
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS)
        _log.critical("supervisord is gone; ending what it left")
        end_leftovers(self._state.root)
        for uid in self._parts.store.uids.all().values():
            end_processes_of(uid, self._state.root)
        self._parts.limiter.close()
        os._exit(1)


def main() -> NoReturn:
    """Run the API process, as supervisord starts it."""
    parser = argparse.ArgumentParser(prog="deployer.server")
    parser.add_argument("--state-dir", type=Path, required=True)
    arguments = parser.parse_args()
    server_log.begin("text", "info")  # until the settings say how
    try:
        settings = Settings.read(StateDir(arguments.state_dir).settings)
        server_log.begin(settings.log_format, settings.log_level)
        Server(settings).run()
    except DeployerError as error:
        _log.critical("%s", error.detail)
        sys.exit(1)
    sys.exit(0)


def _callers(parts: Parts) -> Callers:
    settings = parts.settings
    local_keys.remember(parts.state, parts.store)
    return Callers(
        parts.store,
        asks_for_keys=settings.auth == "token",
        local_text=lambda: local_keys.read_text(parts.state),
        certificates=tuple(each.rule for each in settings.client_certificates),
        throttle=Throttle(settings.limits.wrong_keys),
    )


def _way_to_supervisord(state: StateDir, settings: Settings) -> tuple[str, Credentials]:
    if settings.supervisor.url is not None:
        return settings.supervisor.url, Credentials(
            settings.supervisor.username or "", settings.supervisor.password or ""
        )
    return f"unix://{state.supervisor_socket}", read_credentials(state)


def _connect(url: str, credentials: Credentials, settings: Settings) -> Supervisord:
    """Connect to supervisord, by our plugin if it has loaded it, once it answers.

    Raises:
        ServeRefusedError: It does not answer in time.
    """
    deadline = time.monotonic() + _SUPERVISORD_SECONDS
    while True:
        supervisord = connect(url, credentials.username, credentials.password)
        try:
            supervisord.ping()
        except SupervisordRefusedError:
            if settings.supervisor.url is None:
                raise
            return connect(url, credentials.username, credentials.password, has_plugin=False)
        except DeployerError as error:
            if time.monotonic() > deadline:
                raise ServeRefusedError(f"cannot serve: {error.detail}") from error
            time.sleep(0.1)
        else:
            return supervisord


def installer_settings(settings: Settings) -> InstallerSettings:
    """Say what an operator decided about installing."""
    state = StateDir(settings.state_dir)
    return InstallerSettings(
        cache_dir=settings.cache_dir or state.cache,
        tmp=state.tmp,
        installer=settings.installer,
        index_url=settings.index_url,
        extra_index_urls=settings.extra_index_urls,
        find_links=settings.find_links,
        exclude_newer=settings.exclude_newer,
        require_hashes=settings.install.require_hashes,
        lock_max_age_seconds=settings.lock_max_age_seconds,
        install_seconds=settings.limits.install_seconds,
        python_search=settings.python.search,
        python_downloads=settings.python.downloads,
        pythons=state.pythons,
    )


if __name__ == "__main__":
    main()
