"""Releases before anything of them runs: made from a package, or found to be as they were."""

from __future__ import annotations

from typing import Final

from deployer import faults, packages
from deployer.disks import require_space
from deployer.environments import Built, Environments
from deployer.environments.interpreters import Interpreter
from deployer.errors import ReleaseDamagedError
from deployer.event_kinds import EventKind
from deployer.journals import Journal
from deployer.launches import read_manifest, requirements_of
from deployer.model import Deployment, Package, Release
from deployer.parts import Parts
from deployer.runs import Runs
from deployer.scan_reports import summary
from deployer.scans import Look, Scans

_ENVIRONMENT_INODES: Final = 20_000
"""What a large environment takes; a package index cannot tell beforehand."""


class Preparations:
    """What a deployment does before it touches what serves."""

    def __init__(self, parts: Parts, environments: Environments, runs: Runs, scans: Scans) -> None:
        """Work with the parts of one server."""
        self._state = parts.state
        self._settings = parts.settings
        self._store = parts.store
        self._files = parts.files
        self._reader_uid = parts.isolation.reader_uid
        self._trust = parts.trust
        self._secrets = parts.secrets
        self._environments = environments
        self._runs = runs
        self._scans = scans

    def prepare(self, deployment: Deployment, journal: Journal) -> Release:
        """Find the release to go back to, or make a new one.

        Raises:
            DeployerError: A step failed; what it left belongs to the deployment's release, if its
                row names one.
        """
        if deployment.is_rollback and deployment.release is not None:
            return self._verify(deployment.agent, deployment.release, journal)
        package = self._store.packages.get(deployment.sha256)
        requirements, python = self._validate(package, journal)
        release = self._unpack(deployment, package, journal)
        # A look into code takes a process of its own, while installing mostly waits for another.
        with self._scans.begin(self._state.code(release.agent, release.number)) as look:
            built = self._install(release, requirements, python, journal)
            self._scan(deployment, look, built, journal)
        self._store.events.add(
            EventKind.RELEASE_MADE,
            release.agent,
            f"release {release.number} of {release.agent} was made from package {release.md5}",
        )
        return self._store.releases.get(release.agent, release.number)

    def _verify(self, agent: str, number: int, journal: Journal) -> Release:
        """Make sure that a release is what was installed, before anything is stopped for it."""
        release = self._store.releases.get(agent, number)
        with journal.step("verify") as note:
            self._trust.require_vouched(agent, release.version, release.sha256)
            self._secrets.require(agent, release.manifest)
            breach = self._runs.find_obstacle(release)
            if breach:
                raise ReleaseDamagedError(
                    f"cannot roll {agent} back to release {number}: {breach}",
                    cause=breach,
                    hint="deploy its package again with force, or roll back to another release",
                )
            note.message = f"release {number} is as it was installed"
        return release

    def _validate(self, package: Package, journal: Journal) -> tuple[tuple[str, ...], Interpreter]:
        """Say what to install and for which Python, if it may be deployed at all."""
        with journal.step("validate") as note:
            self._trust.require_vouched(package.agent, package.version, package.sha256)
            self._secrets.require(package.agent, package.manifest)
            requirements = requirements_of(package, self._settings)
            wanted = read_manifest(package.manifest).dependencies.python
            python = self._environments.choose_python(wanted, uid=self._reader_uid)
            note.message = f"Python {python.version}"
        return requirements, python

    def _unpack(self, deployment: Deployment, package: Package, journal: Journal) -> Release:
        with journal.step("unpack") as note:
            require_space(self._state.root, package.unpacked_bytes, package.entries)
            with self._store.transaction():  # or a release could be nobody's after a crash
                release = self._store.releases.add(package)
                self._store.deployments.set_release(deployment, release.number)
            self._files.prepare(release.agent, release.number)
            packages.unpack(
                self._files.archive(package.sha256),
                self._state.code(release.agent, release.number),
                self._settings.limits,
            )
            faults.reach("packages.unpack")
            note.message = f"release {release.number}"
        return release

    def _install(
        self,
        release: Release,
        requirements: tuple[str, ...],
        python: Interpreter,
        journal: Journal,
    ) -> Built:
        with journal.step("install") as note:
            require_space(self._state.root, self._settings.limits.free_bytes, _ENVIRONMENT_INODES)
            self._runs.require_logs(release.agent)
            built = self._environments.build(
                self._state.venv(release.agent, release.number),
                self._state.requirements_lock(release.agent, release.number),
                requirements,
                python,
                log=self._state.install_log(release.agent, release.number),
                earlier_locks=self._files.locks(self._store.releases.of_agent(release.agent)),
                canceled=journal.canceled,
            )
            faults.reach("environments.build")
            self._files.seal(release, built.seal)
            self._store.releases.set_installed(release, str(python.path))
            self._files.write_record(self._store.releases.get(release.agent, release.number))
            note.message = built.summary
        return built

    def _scan(self, deployment: Deployment, look: Look, built: Built, journal: Journal) -> None:
        with journal.step("scan") as note:
            reports = self._scans.scan(look, built.packages)
            self._store.scans.add(deployment.id, reports)
            note.message = summary(reports)
            self._scans.require_unblocked(deployment.agent, reports)
