"""What users get: wheel and sdist out of a clean export, installed where nothing else is."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import psutil
import pytest
import requests

from tests.free_ports import free_ports, release_ports
from tests.programs import needed
from tests.servers import wait_gone, wait_until

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "atoll-deployer.service"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
AGENT = "stdlib_agent"
AGENT_PORTS = 5
MERGED = ("/bin", "/sbin", "/lib", "/lib64")
INDEX_VARIABLES = ("PIP_", "UV_", "SSL_CERT_", "HTTP_", "HTTPS_", "NO_PROXY")
"""How an index is reached here, which is the machine's matter and not the package's."""


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files that git has: a wheel must come of these and of nothing that lies about."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout here, so nobody can tell what belongs into a package")
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def export(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    for name in tracked:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    return folder


def build(source: Path, kind: str) -> Path:
    """Build as `python -m build` does, by the backend that pyproject.toml names."""
    out = source / "dist"
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind]
    done = subprocess.run(
        [*command, "--directory", str(out)],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    (path,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(export: Path) -> Path:
    return build(export, "wheel")


@pytest.fixture(scope="module")
def sdist(export: Path) -> Path:
    return build(export, "sdist")


def test_the_wheel_holds_the_package_its_templates_and_nothing_else(
    wheel: Path, tracked: list[str]
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    shipped = {name for name in names if ".dist-info/" not in name}

    assert shipped == {
        f"deployer/{name}" if name.startswith("supervisor_templates/") else name
        for name in tracked
        if name.startswith(("deployer/", "supervisor_templates/"))
    }
    assert {"deployer/py.typed", "deployer/supervisor_templates/supervisord.conf.j2"} <= shipped
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_git_has(sdist: Path, tracked: list[str]) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert names == {*tracked, "PKG-INFO"}


def test_the_sdist_makes_the_very_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()

    assert build(source, "wheel").read_bytes() == wheel.read_bytes()


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
        (scripts,) = (each for each in archive.namelist() if each.endswith("entry_points.txt"))
        entry_points = archive.read(scripts).decode()

    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "atoll-deployer = deployer.cli:main" in entry_points
    needed = [each for each in metadata.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert any(each.startswith("supervisor==") for each in needed)
    assert not [each for each in needed if each.startswith(("pytest", "hatchling", "ruff"))]


# Installed by pipx -------------------------------------------------------------------------------


@dataclass
class Installed:
    """What pipx made of the wheel, and a place to run it in that holds nothing.

    Attributes:
        command: `atoll-deployer`, on no PATH.
        home: An empty directory, for HOME and to start in.
        variables: All that there are.
        folder: For state directories.
    """

    command: Path
    home: Path
    variables: Mapping[str, str]
    folder: Path

    def run(self, *words: object) -> str:
        done = subprocess.run(
            [str(self.command), *map(str, words)],
            cwd=self.home,
            env=dict(self.variables),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def serving(self, words: list[str], port: int, state: Path) -> Iterator[int]:
        """Run `words` while the block runs, and give the pid of supervisord."""
        output = state.with_suffix(".out")
        with output.open("wb") as written:
            process = subprocess.Popen(
                words,
                cwd=self.home,
                env=dict(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )
        try:
            wait_until(lambda: _is_ready(port, process, output), 30, "the server is ready")
            yield process.pid
            assert process.poll() is None
            for each in _roots(process.pid):
                each.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0, output.read_text()
        finally:
            process.kill()
            process.wait(30)
            leaked = wait_gone(state)
            for each in leaked:
                each.kill()
        assert leaked == []


def _is_ready(port: int, process: subprocess.Popen[bytes], output: Path) -> bool:
    assert process.poll() is None, output.read_text()
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=20).ok
    return False


def _roots(pid: int) -> list[psutil.Process]:
    """Find supervisord: the process itself, or what `unshare` has made PID 1."""
    process = psutil.Process(pid)
    return process.children() if process.name() == "unshare" else [process]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("i")
    home = folder / "home"
    home.mkdir()
    python = Path("/usr/bin/python3")
    suits = [str(python), "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"]
    is_fit = python.exists() and subprocess.run(suits, check=False).returncode == 0
    reached = {name: os.environ[name] for name in os.environ if name.startswith(INDEX_VARIABLES)}
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), **reached}
    pipx = {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin")}
    command = [sys.executable, "-m", "pipx", "install", str(wheel)]
    done = subprocess.run(
        [*command, "--python", str(python) if is_fit else sys.executable],
        env={**variables, **pipx},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(home)
    home.mkdir()
    return Installed(folder / "bin" / "atoll-deployer", home, variables, folder)


@pytest.fixture
def ports() -> Iterator[int]:
    first = free_ports(AGENT_PORTS + 1)
    yield first
    release_ports(first)


def push_and_call(installed: Installed, state: Path, ports: int) -> None:
    """Deploy an agent from a file, and ask it something."""
    package = Path(tempfile.mkdtemp(dir=installed.folder)) / "agent"
    installed.run("init", package, "--name", AGENT)
    server = ("--state-dir", state)

    told = installed.run("push", package, "--json", *server).splitlines()
    pushed = json.loads(told[-1])

    answer = requests.get(f"{pushed['connection']['url']}/health", timeout=10)
    assert (answer.status_code, pushed["connection"]["port"]) == (200, ports + 1)


def options(state: Path, ports: int) -> list[str]:
    return [
        *("--state-dir", str(state), "--api-port", str(ports)),
        *("--agent-base-port", str(ports + 1), "--max-agents", str(AGENT_PORTS)),
    ]


def test_what_pipx_installs_serves_where_nothing_else_is(installed: Installed, ports: int) -> None:
    state = installed.folder / "s"

    with installed.serving(
        [str(installed.command), "serve", *options(state, ports)], ports, state
    ) as pid:
        push_and_call(installed, state, ports)
        agents = installed.run("supervisorctl", "--state-dir", state, "agents")

        assert f"{AGENT}  running" in agents
        # supervisord and uv are those of its own environment, on no PATH
        assert Path(psutil.Process(pid).cmdline()[0]).is_relative_to(installed.folder)
        installed.run("stop", AGENT, "--state-dir", state)
    assert list(installed.home.iterdir()) == []


def test_the_source_tree_is_not_what_runs(installed: Installed) -> None:
    venv = installed.folder / "pipx" / "venvs" / "atoll-deployment-server"
    command = [str(venv / "bin" / "python"), "-c", "import deployer; print(deployer.__file__)"]

    found = subprocess.run(command, cwd=installed.home, capture_output=True, text=True, check=True)

    assert Path(found.stdout.strip()).is_relative_to(venv)


# As systemd starts it ----------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities up one by one")
def test_the_capabilities_that_the_unit_leaves_are_enough_for_full_isolation(
    installed: Installed, ports: int
) -> None:
    lines = UNIT.read_text().splitlines()
    bounds = [line.partition("=")[2] for line in lines if line.startswith("CapabilityBounding")]
    kept = [word.removeprefix("CAP_").lower() for word in " ".join(bounds).split()]
    assert "NoNewPrivileges=true" in lines
    bounded = [
        *(needed("setpriv"), "--no-new-privs"),
        f"--bounding-set=-all,{','.join(f'+{each}' for each in kept)}",
    ]
    levels = []

    for at, prefix in enumerate(([], bounded)):
        state = installed.folder / f"c{at}"
        serve = [str(installed.command), "serve", *options(state, ports)]
        with installed.serving([*prefix, *serve], ports, state):
            push_and_call(installed, state, ports)
            health = requests.get(f"http://127.0.0.1:{ports}/health", timeout=10).json()
            levels.append(health["isolation"])
            installed.run("kill", AGENT, "--state-dir", state)
            installed.run("remove", AGENT, "--state-dir", state)

    assert levels[1] == levels[0]


# As an engine starts it --------------------------------------------------------------------------


def instruction(name: str) -> str:
    """Give what follows a word of the Dockerfile's last stage, on however many lines."""
    text = DOCKERFILE.read_text().replace("\\\n", " ").rpartition("\nFROM ")[2]
    found = [line for line in text.splitlines() if line.strip().startswith(f"{name} ")]
    return found[-1].strip().removeprefix(name).strip()


def test_a_linter_accepts_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("hadolint's wheels are for Linux on x86-64")

    done = subprocess.run(
        [str(hadolint), "--failure-threshold", "style", str(DOCKERFILE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_of_files_that_are_there() -> None:
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]

    assert [each for each in sent if not (ROOT / each).exists()] == []
    # what the build backend reads, and what the image takes its versions from
    assert {"pyproject.toml", "README.md", "LICENSE", "requirements.lock"} <= set(sent)


def test_a_wheel_can_be_built_of_what_the_image_is_sent(
    tracked: list[str], wheel: Path, tmp_path: Path
) -> None:
    lines = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    sent = tuple(line[1:] for line in lines if line.startswith("!"))
    for name in tracked:
        if name.startswith(tuple(f"{each}/" for each in sent)) or name in sent:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)

    assert build(tmp_path, "wheel").read_bytes() == wheel.read_bytes()


def in_empty_root(root: Path, kept: Path) -> list[str]:
    """Give the beginning of a command that runs what follows as PID 1 where nearly nothing is.

    Args:
        root: An empty directory, which is made the root.
        kept: What is there beside the system's own programs, at its own place.
    """
    links = " ".join(each for each in MERGED if Path(each).is_symlink())
    script = f"""
        set -e
        mount -t tmpfs -o mode=755 root {root}
        cd {root}
        mkdir -p proc dev usr etc .old .{kept}
        mkdir -p tmp
        chmod 1777 tmp
        cp -a {links} .
        cp /etc/ld.so.cache etc
        mount --rbind /dev dev
        mount --bind /usr usr
        mount -o remount,bind,ro usr
        mount --bind {kept} .{kept}
        mount -t proc proc proc
        {needed("pivot_root")} . .old
        umount -l .old
        rmdir .old
        cd /
        exec "$@"
    """
    namespaces = ["--pid", "--fork", "--kill-child", "--mount", "--propagation", "private"]
    return [needed("unshare"), *namespaces, "sh", "-c", script, "sh"]


def test_as_pid_1_of_an_empty_root_supervisord_serves_reaps_and_ends(
    installed: Installed, ports: int, tmp_path: Path
) -> None:
    """What an engine would start, with a root and a PID namespace of its own."""
    nsenter, begin = needed("nsenter"), in_empty_root(tmp_path, installed.folder)
    if not _can([*begin, "true"]):
        pytest.skip("no namespaces to be had here")
    # all that is there: no source tree, no home, no row of a user, no certificate
    listed = subprocess.run([*begin, "ls", "/", "/etc"], capture_output=True, text=True, check=True)
    there = {"bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "tmp", "usr"}
    assert set(listed.stdout.split()) - there <= {"/:", "/etc:", "ld.so.cache"}
    state = installed.folder / "d"
    words = [*json.loads(instruction("ENTRYPOINT")), *json.loads(instruction("CMD"))]
    assert words[:2] == ["atoll-deployer", "serve"]
    changed = {"atoll-deployer": str(installed.command), "/var/lib/atoll-deployer": str(state)}
    words = [changed.get(word, str(ports) if word == "8080" else word) for word in words]
    words += ["--agent-base-port", str(ports + 1), "--max-agents", str(AGENT_PORTS)]

    with installed.serving([*begin, *words], ports, state) as pid:
        (first,) = psutil.Process(pid).children()
        assert "supervisor.supervisord" in first.cmdline()
        push_and_call(installed, state, ports)
        # an orphan, as a program that puts itself into the background leaves it to PID 1
        inside = [nsenter, "--target", str(first.pid), "--pid", "--mount"]
        subprocess.run([*inside, "sh", "-c", "sleep 0.2 & exit 0"], timeout=10, check=True)
        wait_until(lambda: "sleep" not in _names_of_children(first))
        probe = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
        probe = [sys.executable, *(word.replace("8080", str(ports)) for word in probe[1:])]
        assert subprocess.run(probe, timeout=20, check=False).returncode == 0
    assert subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode != 0


def test_the_signal_that_stops_a_container_is_the_one_that_ends_the_server() -> None:
    assert instruction("STOPSIGNAL") == "SIGTERM"


def _names_of_children(process: psutil.Process) -> list[str]:
    names = []
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
            names.append(child.name())
    return names


def _can(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
