from __future__ import annotations

import base64
import functools
import http.server
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from deployer.environments import (
    Built,
    Environments,
    InstallerSettings,
    SharedEnvironments,
)
from deployer.environments.compilations import Compilations, compile_bytecode
from deployer.environments.installers import find_pip
from deployer.environments.interpreters import Interpreter
from deployer.environments.locks import read_lock
from deployer.environments.runs import run
from deployer.errors import (
    DeployerError,
    DeploymentCanceledError,
    InstallError,
    InterpreterUnavailableError,
    NoSpaceError,
    ResolutionError,
)
from tests.programs import needed
from tests.servers import wait_until
from tests.wheels import make_index, make_sdist, make_wheel, say_uploads, sha256_of

INSTALLERS = ("uv", "pip")
OURS = Path(os.path.realpath(sys._base_executable))


class Place:
    """A server's directories, an index of its own that holds nothing, and wheels beside it."""

    def __init__(self, root: Path, installer: str) -> None:
        self.root = root
        self.wheels = root / "wheels"
        self.wheels.mkdir()
        self.venv = root / "release" / "venv"
        self.lock = root / "release" / "requirements.lock"
        self.log = root / "install.log"
        self.venv.parent.mkdir()
        self.settings = InstallerSettings(
            cache_dir=root / "cache",
            tmp=root / "tmp",
            installer="pip" if installer == "pip" else "uv",
            index_url=f"file://{make_index(root / 'index', [])}/simple",
            find_links=(str(self.wheels),),
            python_search=(OURS,),
            install_seconds=60,
        )

    def environments(self, **changes: object) -> Environments:
        return Environments(replace(self.settings, **changes))  # type: ignore[arg-type]  # a test's own words

    def build(self, *requirements: str, **changes: object) -> Built:
        environments = self.environments(**changes)
        return self.build_in(environments, *requirements)

    def build_in(self, environments: Environments, *requirements: str, **how: object) -> Built:
        return environments.build(
            self.venv,
            self.lock,
            requirements,
            environments.choose_python(None),
            log=self.log,
            **how,  # type: ignore[arg-type]  # as above
        )

    def earlier_lock(self) -> Path:
        """Put the lock of a build aside, as that of an earlier release."""
        return self.lock.rename(self.root / "earlier.lock")


@pytest.fixture(params=INSTALLERS)
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return Place(tmp_path, request.param)


@pytest.fixture
def uv_place(tmp_path: Path) -> Place:
    return Place(tmp_path, "uv")


def says(built: Built, expression: str) -> str:
    command = [str(built.python), "-c", f"import alpha; print({expression})"]
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def refused(act: Callable[[], object], kind: type[DeployerError]) -> DeployerError:
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind
    return caught.value


class _Index(http.server.SimpleHTTPRequestHandler):
    """A package index, behind a login or not, in HTML, or in JSON where there is some."""

    login = ""

    def do_GET(self) -> None:
        expected = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        page = Path(self.translate_path(self.path)) / "index.json"
        if page.is_file():
            content = page.read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(directory: Path, login: str = "") -> Iterator[str]:
    """Serve an index; gives ``127.0.0.1:PORT``."""
    handler = type("Handler", (_Index,), {"login": login})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(directory))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


def test_an_environment_without_requirements_is_a_bare_python(place: Place) -> None:
    built = place.build()
    assert built.packages == ()
    assert list(built.seconds) == ["venv"]
    assert not place.lock.exists()
    assert place.log.read_text().count("$ ") == 1
    result = subprocess.run(
        [str(built.python), "-c", "import sys; print(sys.prefix)"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.stdout.strip() == str(place.venv)


def test_requirements_are_installed_with_what_they_need(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2", requires=["beta>=2"])
    make_wheel(place.wheels, "beta", "2.5")
    built = place.build("alpha<2")
    assert built.packages == (("alpha", "1.2"), ("beta", "2.5"))
    assert says(built, "alpha.VERSION") == "1.2"


def test_the_lock_names_each_version_and_hash(place: Place) -> None:
    wheel = make_wheel(place.wheels, "alpha", "1.2")
    place.build("alpha")
    assert f"alpha==1.2 \\\n    --hash={sha256_of(wheel)}\n" in place.lock.read_text()


def test_a_requirement_of_another_platform_leaves_nothing_to_install(uv_place: Place) -> None:
    built = uv_place.build("alpha ; sys_platform == 'win32'")
    assert built.packages == ()
    assert uv_place.lock.exists()


def test_a_requirement_of_the_settings_may_be_the_path_of_a_wheel(place: Place) -> None:
    wheel = make_wheel(place.root / "elsewhere", "alpha", "1.2")
    built = place.build(str(wheel))
    assert built.packages == (("alpha", "1.2"),)


def test_what_is_installed_can_be_read_by_every_user(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2")
    before = os.umask(0o077)
    try:
        place.build("alpha")
    finally:
        os.umask(before)
    for path in [place.venv, *place.venv.rglob("*"), place.lock]:
        needed = 0o005 if path.is_dir() else 0o004
        assert stat.S_IMODE(path.stat().st_mode) & needed == needed, path


def test_an_equal_build_takes_the_earlier_lock_over_a_newer_version(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2")
    place.build("alpha")
    earlier = place.earlier_lock()
    make_wheel(place.wheels, "alpha", "1.3")
    built = place.build_in(place.environments(), "alpha", earlier_locks=[earlier])
    assert built.lock_reused
    assert built.packages == (("alpha", "1.2"),)
    assert place.lock.read_text() == earlier.read_text()


def test_refresh_resolves_anew(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    uv_place.build("alpha")
    earlier = uv_place.earlier_lock()
    make_wheel(uv_place.wheels, "alpha", "1.3")
    built = uv_place.build_in(
        uv_place.environments(), "alpha", earlier_locks=[earlier], refresh=True
    )
    assert not built.lock_reused
    assert built.packages == (("alpha", "1.3"),)


def test_the_lock_that_would_be_installed_again_can_be_asked_for(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    uv_place.build("alpha")
    environments = uv_place.environments()
    python = environments.choose_python(None)
    missing = uv_place.root / "missing.lock"
    candidates = [missing, uv_place.lock]
    assert environments.find_reusable_lock(candidates, ["alpha"], python) == uv_place.lock
    assert environments.find_reusable_lock(candidates, ["alpha>1"], python) is None


def test_what_would_be_installed_can_be_asked_for(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2", requires=["beta"])
    make_wheel(place.wheels, "beta", "2.0")
    environments = place.environments()
    python = environments.choose_python(None)
    found = environments.resolve(["alpha"], python, log=place.log)
    assert [pin.named for pin in found.pins] == [("alpha", "1.2"), ("beta", "2.0")]
    assert not found.lock_reused
    assert not place.venv.exists()
    assert not place.lock.exists()
    assert list(place.settings.tmp.iterdir()) == []
    assert not environments.resolve([], python, log=place.log).pins


def test_what_would_be_installed_is_what_an_earlier_lock_says(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    uv_place.build("alpha")
    make_wheel(uv_place.wheels, "alpha", "1.3")
    environments = uv_place.environments()
    python = environments.choose_python(None)
    found = environments.resolve(["alpha"], python, log=uv_place.log, earlier_locks=[uv_place.lock])
    assert (found.lock_reused, found.pins[0].named) == (True, ("alpha", "1.2"))


def test_what_would_have_to_be_downloaded_is_not_cached(uv_place: Place) -> None:
    wheel = make_wheel(uv_place.root / "made", "alpha", "1.2")

    def is_cached(environments: Environments) -> bool | None:
        python = environments.choose_python(None)
        locks = [uv_place.lock]
        return environments.resolve(["alpha"], python, log=uv_place.log, earlier_locks=locks).cached

    with serving(make_index(uv_place.root / "www", [wheel])) as address:
        changes = {"index_url": f"http://{address}/simple", "find_links": ()}
        uv_place.build("alpha", **changes)
        assert is_cached(uv_place.environments(**changes)) is True
        # An index without metadata of its own makes uv fetch the wheel to resolve, so the
        # resolution is an earlier one.
        elsewhere = uv_place.environments(**changes, cache_dir=uv_place.root / "another")
        assert is_cached(elsewhere) is False


def test_pip_cannot_tell_what_it_would_have_to_download(tmp_path: Path) -> None:
    place = Place(tmp_path, "pip")
    make_wheel(place.wheels, "alpha", "1.2")
    environments = place.environments()
    found = environments.resolve(["alpha"], environments.choose_python(None), log=place.log)
    assert found.cached is None


def test_what_was_asked_for_by_path_has_a_name_and_a_version(uv_place: Place) -> None:
    wheel = make_wheel(uv_place.root / "made", "alpha-one", "1.2")
    environments = uv_place.environments()
    found = environments.resolve([str(wheel)], environments.choose_python(None), log=uv_place.log)
    assert found.pins[0].named in {("alpha-one", "1.2"), ("alpha-one", f"file://{wheel}")}


def test_a_lock_past_its_age_is_resolved_anew(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    uv_place.build("alpha")
    earlier = uv_place.earlier_lock()
    make_wheel(uv_place.wheels, "alpha", "1.3")
    environments = uv_place.environments(lock_max_age_seconds=0)
    assert not uv_place.build_in(environments, "alpha", earlier_locks=[earlier]).lock_reused


def test_a_rollback_installs_its_own_lock_whatever_its_age(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    uv_place.build("alpha")
    make_wheel(uv_place.wheels, "alpha", "1.3")
    environments = uv_place.environments(lock_max_age_seconds=0)
    built = uv_place.build_in(environments, "alpha", own_lock=uv_place.lock)
    assert built.lock_reused
    assert built.packages == (("alpha", "1.2"),)


def test_a_rollback_without_its_lock_is_refused(uv_place: Place) -> None:
    error = refused(
        lambda: uv_place.build_in(
            uv_place.environments(), "alpha", own_lock=uv_place.root / "gone"
        ),
        InstallError,
    )
    assert error.cause == "the release's lock is missing or damaged"


def test_the_same_lock_installs_again_while_the_index_is_away(place: Place) -> None:
    wheel = make_wheel(place.root / "made", "alpha", "1.2")
    with serving(make_index(place.root / "www", [wheel])) as address:
        environments = place.environments(index_url=f"http://{address}/simple", find_links=())
        place.build_in(environments, "alpha")
    built = place.build_in(environments, "alpha", earlier_locks=[place.earlier_lock()])
    assert built.lock_reused
    assert says(built, "alpha.VERSION") == "1.2"


def test_a_lock_installs_from_the_index_when_the_cache_is_gone(uv_place: Place) -> None:
    wheel = make_wheel(uv_place.root / "made", "alpha", "1.2")
    with serving(make_index(uv_place.root / "www", [wheel])) as address:
        changes = {"index_url": f"http://{address}/simple", "find_links": ()}
        uv_place.build("alpha", **changes)
        environments = uv_place.environments(**changes, cache_dir=uv_place.root / "another")
        built = uv_place.build_in(environments, "alpha", earlier_locks=[uv_place.earlier_lock()])
    assert built.lock_reused
    assert built.packages == (("alpha", "1.2"),)


def test_a_lock_whose_files_were_replaced_is_resolved_anew(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    uv_place.build("alpha")
    earlier = uv_place.earlier_lock()
    make_wheel(uv_place.wheels, "alpha", "1.2", content="CHANGED = True\n")
    environments = uv_place.environments(cache_dir=uv_place.root / "another")
    built = uv_place.build_in(environments, "alpha", earlier_locks=[earlier])
    assert not built.lock_reused
    assert says(built, "alpha.CHANGED") == "True"


def test_an_authors_hash_is_held_to(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2")
    error = refused(lambda: place.build(f"alpha --hash=sha256:{'0' * 64}"), ResolutionError)
    assert error.cause == "no file of alpha==1.2 has a hash that the requirements allow"


def test_an_authors_right_hash_is_taken(uv_place: Place) -> None:
    wheel = make_wheel(uv_place.wheels, "alpha", "1.2", requires=["beta"])
    make_wheel(uv_place.wheels, "beta")
    built = uv_place.build(f"alpha --hash={sha256_of(wheel)}")
    assert [name for name, _ in built.packages] == ["alpha", "beta"]


def test_a_package_that_nobody_has_is_named(uv_place: Place) -> None:
    error = refused(lambda: uv_place.build("alpha"), ResolutionError)
    assert error.cause == "no package alpha on the index"


def test_a_package_that_pip_cannot_find_is_named(tmp_path: Path) -> None:
    error = refused(lambda: Place(tmp_path, "pip").build("alpha"), ResolutionError)
    assert error.cause == "no wheel of alpha on the index"


def test_a_version_that_nobody_has_is_named(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2")
    error = refused(lambda: place.build("alpha==9"), ResolutionError)
    assert error.cause == "no version alpha==9 on the index"


def test_versions_that_conflict_are_named(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2", requires=["beta>=2"])
    make_wheel(place.wheels, "beta", "1.0")
    make_wheel(place.wheels, "beta", "2.0")
    error = refused(lambda: place.build("alpha", "beta<2"), ResolutionError)
    assert error.cause.startswith("the requirements conflict: ")
    assert "alpha" in error.cause
    assert "beta<2" in error.cause


def test_a_source_distribution_is_refused_and_never_run(place: Place) -> None:
    ran = place.root / "ran"
    make_sdist(place.wheels, "alpha", "1.0", setup=f"open({str(ran)!r}, 'w').close()\n")
    error = refused(lambda: place.build("alpha"), ResolutionError)
    assert "alpha" in error.cause
    assert "wheel" in error.cause
    assert not ran.exists()


def test_a_package_for_another_python_says_so(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.0", python=">=4")
    error = refused(lambda: place.build("alpha"), ResolutionError)
    assert error.cause.startswith("alpha")
    assert "needs Python >=4" in error.cause


def test_an_index_that_is_away_is_not_the_packages_fault(place: Place, closed_port: int) -> None:
    index = f"http://127.0.0.1:{closed_port}/simple"
    error = refused(lambda: place.build("alpha", index_url=index, find_links=()), InstallError)
    assert error.cause.startswith("cannot reach ")
    assert error.cause.endswith(": Connection refused")
    assert any("Connection refused" in line for line in error.evidence)


def test_a_login_is_used_and_shown_nowhere(place: Place) -> None:
    wheel = make_wheel(place.root / "made", "alpha", "1.2")
    with serving(make_index(place.root / "www", [wheel]), login='me:p@ "s') as address:
        index = f"http://me:p%40%20%22s@{address}/simple"
        built = place.build("alpha", index_url=index, find_links=())
    assert built.packages == (("alpha", "1.2"),)
    for text in (place.log.read_text(), place.lock.read_text()):
        assert "p%40" not in text
        assert "p@" not in text


def test_a_wrong_login_is_not_the_packages_fault(uv_place: Place) -> None:
    with serving(make_index(uv_place.root / "www", []), login="me:word") as address:
        index = f"http://me:wrong@{address}/simple"
        error = refused(
            lambda: uv_place.build("alpha", index_url=index, find_links=()), InstallError
        )
    assert "refuses our credentials" in error.cause


def test_a_full_disk_is_not_the_packages_fault(tmp_path: Path) -> None:
    error = refused(lambda: shell("true", tmp_path, log=Path("/dev/full")), NoSpaceError)
    assert error.cause == "the disk is full"


@pytest.mark.parametrize(
    ("moment", "version"), [(None, "1.2"), ("2025-06-01", "1.1"), ("2025-01-01", "1.0")]
)
def test_what_was_uploaded_later_than_exclude_newer_is_not_installed(
    uv_place: Place, moment: str | None, version: str
) -> None:
    uploads = {
        make_wheel(uv_place.root / "made", "alpha", each): uploaded
        for each, uploaded in (
            ("1.0", "2024-12-01T00:00:00Z"),
            ("1.1", "2025-05-31T23:59:59Z"),
            ("1.2", "2025-06-02T00:00:01Z"),
        )
    }
    www = make_index(uv_place.root / "www", list(uploads))
    say_uploads(www / "simple", "alpha", uploads)
    with serving(www) as address:
        built = uv_place.build(
            "alpha", index_url=f"http://{address}/simple", find_links=(), exclude_newer=moment
        )
    assert built.packages == (("alpha", version),)


def test_a_version_that_was_uploaded_later_than_exclude_newer_cannot_be_had(
    uv_place: Place,
) -> None:
    wheel = make_wheel(uv_place.root / "made", "alpha", "1.0")
    www = make_index(uv_place.root / "www", [wheel])
    say_uploads(www / "simple", "alpha", {wheel: "2025-06-02T00:00:01Z"})
    with serving(www) as address:
        sources = {"index_url": f"http://{address}/simple", "find_links": ()}
        error = refused(
            lambda: uv_place.build("alpha==1.0", **sources, exclude_newer="2025-06-01"),
            ResolutionError,
        )
    assert error.cause == "no version alpha==1.0 on the index"


def test_exclude_newer_is_refused_with_pip_instead_of_ignored(tmp_path: Path) -> None:
    place = Place(tmp_path, "pip")
    error = refused(lambda: place.build("alpha", exclude_newer="2026-01-01"), InstallError)
    assert error.cause == "pip cannot honour exclude_newer"


def test_without_uv_on_the_machine_pip_does_it(
    uv_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    make_wheel(uv_place.wheels, "alpha", "1.2")
    assert uv_place.build("alpha").packages == (("alpha", "1.2"),)
    assert " -m pip " in uv_place.log.read_text()


def test_without_an_installed_pip_the_one_of_ensurepip_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pip" else find(name)
    )
    words = find_pip()
    assert words[-1].endswith(".whl/pip")
    subprocess.run([*words, "--version"], check=True, capture_output=True, timeout=60)


def test_configuration_on_the_machine_is_not_read(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "evil", "alpha", "6.6.6")
    make_wheel(place.wheels, "alpha", "1.2")
    evil = str(tmp_path / "evil")
    monkeypatch.setenv("UV_FIND_LINKS", evil)
    monkeypatch.setenv("PIP_FIND_LINKS", evil)
    monkeypatch.setenv("UV_PYTHON", "/nonexistent")
    monkeypatch.setenv("PYTHONPATH", evil)
    assert place.build("alpha").packages == (("alpha", "1.2"),)


def test_building_from_several_threads_shares_one_cache(place: Place) -> None:
    make_wheel(place.wheels, "alpha", "1.2")
    environments = place.environments()
    python = environments.choose_python(None)
    built: list[Built] = []

    def build(number: int) -> None:
        directory = place.root / f"release-{number}"
        directory.mkdir()
        log = directory / "log"
        built.append(
            environments.build(directory / "venv", directory / "lock", ["alpha"], python, log=log)
        )

    threads = [threading.Thread(target=build, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [one.packages for one in built] == [(("alpha", "1.2"),)] * 3


@dataclass
class Sharing:
    """Environments that two releases may share."""

    place: Place

    def build(self, release: str, *requirements: str, **how: object) -> Built:
        environments = Environments(
            self.place.settings, shared=SharedEnvironments(self.place.root / "environments")
        )
        directory = self.place.root / release
        directory.mkdir()
        return environments.build(
            directory / "venv",
            directory / "lock",
            requirements,
            environments.choose_python(None),
            log=directory / "log",
            **how,  # type: ignore[arg-type]  # a test's own words
        )

    def made(self) -> list[Path]:
        return sorted((self.place.root / "environments").iterdir())


@pytest.fixture
def sharing(place: Place) -> Sharing:
    (place.root / "environments").mkdir()
    make_wheel(place.wheels, "alpha", "1.2")
    return Sharing(place)


def test_an_equal_lock_is_installed_once(sharing: Sharing) -> None:
    one, two = sharing.build("one", "alpha"), sharing.build("two", "alpha>=1")
    assert (one.environment_reused, two.environment_reused) == (False, True)
    assert one.packages == two.packages == (("alpha", "1.2"),)
    assert one.seal == two.seal != {}
    assert says(one, "alpha.VERSION") == says(two, "alpha.VERSION") == "1.2"
    (environment,) = sharing.made()
    assert one.python.resolve() == two.python.resolve()
    assert [built.python.parent.parent.readlink() for built in (one, two)] == [environment] * 2
    assert "environment reused" in two.summary
    assert str(environment) in (sharing.place.root / "two" / "log").read_text()
    assert read_lock(sharing.place.root / "two" / "lock") is not None
    alone = [str(environment / "bin" / "python"), "-c", "import sys; print(sys.prefix)"]
    prefix = subprocess.run(alone, check=True, capture_output=True, text=True, timeout=30).stdout
    assert prefix.strip() == str(environment)


def test_an_environment_of_nothing_but_python_is_shared_too(sharing: Sharing) -> None:
    assert [sharing.build(name).environment_reused for name in ("one", "two")] == [False, True]
    assert not (sharing.place.root / "two" / "lock").exists()


def test_what_is_shared_can_be_read_by_every_user_and_is_no_ones_to_write(
    sharing: Sharing,
) -> None:
    before = os.umask(0o077)
    try:
        sharing.build("one", "alpha")
    finally:
        os.umask(before)
    (environment,) = sharing.made()
    for path in [environment, *environment.rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert mode & 0o022 == 0, path
            assert mode & (0o055 if path.is_dir() else 0o044), path


def test_one_that_fails_leaves_nothing(sharing: Sharing) -> None:
    lock = sharing.build("one", "alpha").python.parents[2] / "lock"
    shutil.rmtree(sharing.made()[0])
    text = re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", lock.read_text())
    lock.write_text(text)
    with pytest.raises(DeployerError):
        sharing.build("two", "alpha", own_lock=lock)
    assert sharing.made() == []
    assert not (sharing.place.root / "two" / "venv").exists()


def test_two_at_once_make_one(sharing: Sharing) -> None:
    environments = Environments(
        sharing.place.settings, shared=SharedEnvironments(sharing.place.root / "environments")
    )
    python = environments.choose_python(None)
    built: list[Built] = []

    def build(number: int) -> None:
        directory = sharing.place.root / str(number)
        directory.mkdir()
        made = environments.build(
            directory / "venv", directory / "lock", ["alpha"], python, log=directory / "log"
        )
        built.append(made)

    threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(each.environment_reused for each in built) == [False, True, True, True]
    assert len(sharing.made()) == 1


def test_nothing_private_is_left_behind(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    uv_place.build("alpha")
    refused(lambda: uv_place.build("beta"), ResolutionError)
    assert list(uv_place.settings.tmp.iterdir()) == []


def test_an_interpreter_that_is_not_here_is_named(uv_place: Place) -> None:
    error = refused(
        lambda: uv_place.environments().choose_python(">=3.99"), InterpreterUnavailableError
    )
    assert error.cause.startswith("no Python >=3.99 here; found ")


def test_a_download_that_fails_tells_both_reasons(uv_place: Place) -> None:
    environments = uv_place.environments(python_downloads=True)
    error = refused(lambda: environments.choose_python(">=3.99"), InterpreterUnavailableError)
    assert error.cause.startswith("no Python >=3.99 here; found ")
    assert "; downloading one failed: " in error.cause


def test_an_agent_with_a_uid_gets_an_interpreter_that_it_can_reach(uv_place: Place) -> None:
    closed = uv_place.root / "closed"
    (closed / "bin").mkdir(parents=True)
    (closed / "bin" / "python3").symlink_to(OURS)
    closed.chmod(0o700)
    environments = uv_place.environments(python_search=(closed,))
    try:
        chosen = environments.choose_python(None, uid=os.getuid() + 70001)
    except InterpreterUnavailableError as error:  # a machine whose only Python lies in a home
        assert "is closed to uid" in " ".join(error.evidence)  # noqa: PT017  # either is right
    else:
        assert all(parent.stat().st_mode & stat.S_IXOTH for parent in chosen.path.parents)


def test_bytecode_is_compiled_without_running_what_is_installed(uv_place: Place) -> None:
    ran = uv_place.root / "ran"
    make_wheel(uv_place.wheels, "alpha", "1.2")
    environments = uv_place.environments()
    built = uv_place.build_in(environments, "alpha")
    site = next(uv_place.venv.glob("lib/*/site-packages"))
    (site / "evil.pth").write_text(f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n")
    assert compile_bytecode((site,), built.interpreter.path, timeout_seconds=30)
    assert list((site / "__pycache__").glob("alpha.*.pyc"))
    assert not ran.exists()


def test_a_file_that_does_not_compile_keeps_no_other_from_it(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    make_wheel(uv_place.wheels, "broken", content="def (:\n")
    built = uv_place.build("alpha", "broken")
    site = next(uv_place.venv.glob("lib/*/site-packages"))
    assert not compile_bytecode((site,), built.interpreter.path, timeout_seconds=30)
    assert list((site / "__pycache__").glob("alpha.*.pyc"))


def test_an_environment_is_compiled_once_and_not_after_its_end(uv_place: Place) -> None:
    make_wheel(uv_place.wheels, "alpha", "1.2")
    built = uv_place.build("alpha")
    site = next(uv_place.venv.glob("lib/*/site-packages"))
    compilations, code = Compilations(), uv_place.root / "code"
    code.mkdir()
    for number in range(4000):
        (code / f"part{number}.py").write_text("a = 1\n" * 50)
    compilations.begin(uv_place.venv, built.interpreter.path, [site, code])
    wait_until(lambda: list(code.glob("__pycache__/*")))
    compilations.end(uv_place.venv)
    shutil.rmtree(code / "__pycache__")
    assert not (uv_place.venv / ".bytecode").exists()
    for path in list(code.iterdir())[10:]:
        path.unlink()
    assert not (code / "__pycache__").exists(), "it went on after its end"
    compilations.begin(uv_place.venv, built.interpreter.path, [site, code])
    wait_until((uv_place.venv / ".bytecode").exists)
    assert len(list((code / "__pycache__").iterdir())) == 10
    assert list((site / "__pycache__").glob("alpha.*.pyc"))
    shutil.rmtree(code / "__pycache__")
    compilations.begin(uv_place.venv, built.interpreter.path, [site, code])
    assert not (code / "__pycache__").exists()


def test_source_that_takes_gigabytes_to_parse_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("x = [" + "[]," * 1_000_000 + "]\n")
    (tmp_path / "small.py").touch()

    assert not compile_bytecode((tmp_path,), Path(sys.executable), timeout_seconds=60)
    assert not list(tmp_path.glob("__pycache__/large*"))


def shell(text: str, tmp_path: Path, **how: object) -> None:
    run(
        ["/bin/sh", "-c", text],
        doing="run a script",
        cwd=tmp_path,
        variables={"PATH": os.defpath},
        **({"timeout_seconds": 30.0, "log": tmp_path / "log"} | how),  # type: ignore[arg-type]  # a test's own words
    )


def is_gone(pid_file: Path) -> bool:
    """Wait until the process whose number a file holds is no more."""
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False


def test_the_log_holds_each_command_before_its_output(tmp_path: Path) -> None:
    shell("echo one; echo two >&2", tmp_path)
    shell("printf three", tmp_path)
    assert (tmp_path / "log").read_text() == (
        "$ /bin/sh -c 'echo one; echo two >&2'\none\ntwo\n$ /bin/sh -c 'printf three'\nthree\n"
    )


def test_output_without_end_fills_neither_disk_nor_memory(tmp_path: Path) -> None:
    script = "head -c 40000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1"
    error = refused(lambda: shell(script, tmp_path), InstallError)
    log = (tmp_path / "log").read_bytes()
    assert len(log) < 17_000_000
    assert log.endswith(b"x\n[the rest is left out]")
    assert [len(line) for line in error.evidence[1:]] == [4096, len("the end")]


def test_an_overdue_command_is_killed_with_its_children(tmp_path: Path) -> None:
    error = refused(
        lambda: shell("sleep 60 & echo $! > child; echo begun; wait", tmp_path, timeout_seconds=3),
        InstallError,
    )
    assert error.cause == "not done within 3 s"
    assert error.evidence[-1] == "begun"
    assert is_gone(tmp_path / "child")


def test_a_canceled_command_is_killed_with_its_children(tmp_path: Path) -> None:
    begun = tmp_path / "child"
    script = "sleep 60 & echo $! > half; mv half child; wait"
    refused(
        lambda: shell(script, tmp_path, canceled=begun.exists),
        DeploymentCanceledError,
    )
    assert is_gone(begun)


def test_a_child_that_outlives_its_command_is_killed_and_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    shell("sleep 60 & echo $! > child", tmp_path)
    assert time.monotonic() - began < 30
    assert is_gone(tmp_path / "child")


def test_a_command_dies_with_a_server_that_is_killed(tmp_path: Path) -> None:
    needed("setpriv")  # it arranges that
    code = (
        "import sys; from pathlib import Path; from deployer.environments.runs import run; "
        "here = Path(sys.argv[1]); "
        "run(['/bin/sh', '-c', 'echo $$ > half; mv half child; exec sleep 60'], doing='wait', "
        "cwd=here, variables={'PATH': '/usr/bin:/bin'}, log=here / 'log', timeout_seconds=60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as server:
        deadline = time.monotonic() + 30
        while not (tmp_path / "child").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        server.kill()
    assert is_gone(tmp_path / "child")


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    error = refused(
        lambda: run(
            ["/nonexistent/uv"],
            doing="make an environment",
            cwd=tmp_path,
            variables={"PATH": os.defpath},
            log=tmp_path / "log",
            timeout_seconds=5,
        ),
        InstallError,
    )
    assert "No such file or directory" in error.cause


@pytest.mark.parametrize("installer", INSTALLERS)
def test_a_dependency_comes_from_the_real_index(tmp_path: Path, installer: str) -> None:
    place = Place(tmp_path, installer)
    try:
        built = place.build("six==1.17.0", index_url=None, find_links=())
    except InstallError as error:
        pytest.skip(f"no way to PyPI from here: {error.cause}")
    assert built.packages == (("six", "1.17.0"),)
    assert isinstance(built.interpreter, Interpreter)


@pytest.fixture
def closed_port() -> int:
    """Give a port on which nothing listens."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Index) as server:
        return int(server.server_address[1])
