"""Source distributions: built in a sandbox that lets nothing of their code out but wheels."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from deployer.build_sites import source_builds
from deployer.environments import Built, Environments, InstallerSettings, SourceBuilds
from deployer.environments.locks import Pin
from deployer.environments.source_builds import take_list, take_wheels
from deployer.errors import DeployerError, InstallError
from deployer.isolation import find_isolation
from deployer.isolation_levels import IsolationLevel
from deployer.limits.limiters import Limiter
from deployer.settings import LimitSettings
from deployer.state_dir import MARKER, StateDir
from tests.servers import wait_until
from tests.wheels import make_index, make_source, make_wheel

SECRET: Final = "what another agent keeps for itself"


class Server:
    """What a server with agents has, as far as builds could reach it."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir(root.resolve() / "state")
        for path in (self.state.root, self.state.agents, self.state.builds):
            path.mkdir(parents=True)
            path.chmod(0o711)
        for path in (self.state.tmp, self.state.run, self.state.cache):
            path.mkdir(mode=0o700)
        self.isolation = find_isolation(self.state)
        own_uids = self.isolation.agent_uids is not None
        self.limiter = Limiter(self.state, LimitSettings(), own_uids=own_uids)
        self.wheels = root / "wheels"
        self.wheels.mkdir()
        data = self.state.agent_data("victim")
        data.mkdir(parents=True)
        self.secret = data / "secret"
        for path in (self.secret, self.state.token):
            path.write_text(SECRET)
            path.chmod(0o600)
        self.release = self.state.release("reef", 1)
        self.release.mkdir(parents=True)
        self.settings = InstallerSettings(
            cache_dir=self.state.cache,
            tmp=self.state.tmp,
            index_url=f"file://{make_index(root / 'index', [])}/simple",
            find_links=(str(self.wheels),),
            install_seconds=60,
        )

    @property
    def builds(self) -> SourceBuilds:
        return source_builds(self.state, self.isolation, self.limiter)

    def build(self, *requirements: str, number: int = 1, **how: object) -> Built:
        environments = Environments(self.settings, self.builds)
        release = self.state.release("reef", number)
        release.mkdir(exist_ok=True)
        return environments.build(
            release / "venv",
            release / "requirements.lock",
            requirements,
            environments.choose_python(None, uid=self.isolation.reader_uid),
            log=self.state.root / "install.log",
            **how,  # type: ignore[arg-type]  # a test's own words
        )

    @property
    def log(self) -> str:
        return (self.state.root / "install.log").read_text()


def make_server(root: Path) -> Server:
    made = Server(root)
    if made.isolation.level is IsolationLevel.NONE:
        pytest.skip("this machine has no way to keep processes apart")
    return made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = make_server(tmp_path)
    yield made
    made.limiter.close()


def imports(built: Built, name: str) -> str:
    command = [str(built.python), "-c", f"import {name}; print({name}.BUILT)"]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def test_source_is_built_and_installed_as_a_wheel_of_ours(server: Server) -> None:
    make_source(server.wheels, "alpha")
    make_wheel(server.wheels, "beta")

    built = server.build("alpha", "beta")

    assert built.packages == (("alpha", "1.0"), ("beta", "1.0"))
    assert imports(built, "alpha") == "True"
    owners = {path.lstat().st_uid for path in (server.release / "venv").rglob("*")}
    assert owners == {os.geteuid()}
    lock = (server.release / "requirements.lock").read_text()
    assert f"alpha @ file://{server.state.cache}/built/" in lock
    assert "beta==1.0" in lock
    assert list(server.state.builds.iterdir()) == []


def test_what_was_built_is_installed_again_without_building(server: Server) -> None:
    source = make_source(server.wheels, "alpha")
    server.build("alpha")
    source.unlink()

    earlier = [server.release / "requirements.lock"]
    built = server.build("alpha", number=2, earlier_locks=earlier)

    assert built.lock_reused
    assert imports(built, "alpha") == "True"


def test_nothing_is_built_where_every_dependency_has_a_wheel(server: Server) -> None:
    make_source(server.wheels, "alpha", act="raise SystemExit('ran')")
    make_wheel(server.wheels, "alpha")

    server.build("alpha")

    assert "ran" not in server.log
    assert "launcher.py" not in server.log


ATTACKS: Final = {
    "write-outside": "open({outside!r}, 'w').close()",
    "write-release": "open({release!r} + '/planted', 'w').close()",
    "write-tools": "open({tools!r} + '/planted', 'w').close()",
    "write-cache": "open({cache!r} + '/planted', 'w').close()",
    "read-agent": "open({secret!r}).read()",
    "read-token": "open({token!r}).read()",
    "signal-server": "os.kill({pid}, 0)",
    "read-memory": "open('/proc/{pid}/environ').read()",
    "become-root": "os.setuid(0)",
}
TRY: Final = """
    try:
        {attack}
    except OSError as error:
        print({name!r}, 'REFUSED', error)
    else:
        print({name!r}, 'OPEN')
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has let source be built which tries everything, and then gives no wheel."""
    server = make_server(tmp_path_factory.mktemp("h"))
    words = {
        "outside": str(server.wheels.parent / "outside"),
        "release": str(server.release),
        "tools": str(server.state.builds / "site" / "tools"),
        "cache": str(server.state.cache),
        "secret": str(server.secret),
        "token": str(server.state.token),
        "pid": os.getpid(),
    }
    tries = (TRY.format(name=key, attack=ATTACKS[key].format(**words)) for key in ATTACKS)
    told = "print('TOLD', sorted(os.environ), os.path.exists(os.path.expanduser('~/.netrc')))"
    act = "if True:\n" + "".join(tries) + f"{told}\nraise SystemExit('no wheel')"
    make_source(server.wheels, "alpha", act=act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_SECRET", "told")
        with pytest.raises(DeployerError):
            server.build("alpha")
    yield server
    server.limiter.close()


@pytest.mark.parametrize("attack", ATTACKS)
def test_code_that_reaches_out_while_it_is_built_is_refused(hostile: Server, attack: str) -> None:
    assert f"{attack} REFUSED" in hostile.log
    assert f"{attack} OPEN" not in hostile.log


def test_nothing_stays_of_source_that_reached_out(hostile: Server) -> None:
    assert SECRET not in hostile.log
    assert not (hostile.wheels.parent / "outside").exists()
    assert not list(hostile.state.root.rglob("planted"))
    assert list(hostile.state.builds.iterdir()) == []


def test_a_build_is_told_no_login_and_nothing_of_the_server(hostile: Server) -> None:
    (told,) = {line for line in hostile.log.splitlines() if "TOLD" in line}
    assert "'HOME'" in told
    assert "API_SECRET" not in told
    assert f"'{MARKER}'" in told  # or another server's build of the same user would be ended
    assert told.endswith("] False")


def test_what_a_build_leaves_running_ends_with_it(server: Server) -> None:
    uid = server.isolation.builder_uid
    if uid is None:
        pytest.skip("builds have no user of their own here")
    act = "import subprocess as s\ns.Popen(['sleep', '77'], start_new_session=True, "
    act += "stdout=s.DEVNULL, stderr=s.DEVNULL)"
    make_source(server.wheels, "alpha", act=act)

    server.build("alpha")

    def left() -> list[psutil.Process]:
        return [each for each in psutil.process_iter(["uids"]) if each.info["uids"].real == uid]

    wait_until(lambda: not left())


def test_a_build_is_held_by_a_control_group_of_its_own(server: Server) -> None:
    root = server.limiter.mechanisms.cgroups.get("pids")
    if root is None:
        pytest.skip("no control groups are to be had here")
    act = "print('GROUPS', open('/proc/self/cgroup').read().split()); raise SystemExit('no wheel')"
    make_source(server.wheels, "alpha", act=act)

    with pytest.raises(DeployerError):
        server.build("alpha")

    told = next(line for line in server.log.splitlines() if "GROUPS" in line)
    assert f"/{root.roots['pids'].name}/build--0." in told
    assert not [each for root in server.limiter.mechanisms.roots for each in root.glob("build-*")]


def test_what_a_build_leaves_in_its_group_is_ended_without_a_user_too(server: Server) -> None:
    if "pids" not in server.limiter.mechanisms.cgroups:
        pytest.skip("no control groups are to be had here")
    plan = server.limiter.limit_unnamed("build--0").groups[0]
    with subprocess.Popen(["sleep", "77"], start_new_session=True) as left:
        group = plan.directory.with_name(f"{plan.directory.name}.{left.pid}")
        group.mkdir()
        (group / "cgroup.procs").write_text(str(left.pid))

        server.builds.end_processes(None)

        assert left.wait(20) == -9
    assert not group.exists()


PIN: Final = Pin("alpha==1.0", ("sha256:" + "0" * 64,))
WHEEL: Final = "alpha-1.0-py3-none-any.whl"


def plant_link(folder: Path) -> None:
    (folder.parent / "secret").write_text(SECRET)
    (folder / WHEEL).symlink_to(folder.parent / "secret")


def plant_second_name(folder: Path) -> None:
    (folder.parent / "secret").write_text(SECRET)
    (folder / WHEEL).hardlink_to(folder.parent / "secret")


def plant_pipe(folder: Path) -> None:
    os.mkfifo(folder / WHEEL)


def plant_other_name(folder: Path) -> None:
    (folder / "beta-1.0-py3-none-any.whl").touch()


def plant_broken_line(folder: Path) -> None:
    """The parser of wheel names lets a line break through where the platform is named."""
    (folder / WHEEL.replace(".whl", "\n.whl")).write_bytes(b"wheel")


def plant_no_wheel(folder: Path) -> None:
    (folder / "x.pth").touch()


def plant_linked_folder(folder: Path) -> None:
    real = folder.parent / "real"
    folder.rename(real)
    (real / WHEEL).touch()
    folder.symlink_to(real)


@pytest.mark.parametrize(
    "plant",
    [
        *(plant_link, plant_second_name, plant_pipe, plant_other_name, plant_no_wheel),
        *(plant_linked_folder, plant_broken_line),
    ],
)
def test_only_plain_files_that_were_asked_for_are_taken_out(tmp_path: Path, plant: object) -> None:
    folder, kept = tmp_path / "wheels", tmp_path / "kept"
    folder.mkdir()
    assert callable(plant)
    plant(folder)

    with pytest.raises(InstallError, match="cannot take what was built"):
        take_wheels([PIN], folder, kept)

    assert not [path for path in kept.rglob("*") if path.is_file()]


def test_what_is_taken_out_is_kept_by_its_hash_and_nobody_elses(tmp_path: Path) -> None:
    folder, kept = tmp_path / "wheels", tmp_path / "kept"
    folder.mkdir()
    (folder / WHEEL).write_bytes(b"wheel")

    (pin,) = take_wheels([PIN], folder, kept)

    (path,) = (path for path in kept.rglob("*") if path.is_file())
    assert pin.requirement == f"alpha @ file://{path}"
    assert pin.hashes == (f"sha256:{path.parent.name}",)
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


@pytest.mark.parametrize(
    "line",
    [
        *("--index-url https://evil.invalid/simple", "-e /etc", "alpha", "alpha==1.0"),
        *("alpha @ https://evil.invalid/a.whl", "/etc/passwd", "alpha>=1", "a" * 5_000_000),
    ],
    ids=lambda line: line[:20],
)
def test_a_list_that_a_build_has_written_is_obeyed_by_nobody(tmp_path: Path, line: str) -> None:
    (tmp_path / "resolved.txt").write_text(f"{line}\n")

    with pytest.raises(InstallError, match="cannot take what was built"):
        take_list(tmp_path / "resolved.txt")
