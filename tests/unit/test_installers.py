from __future__ import annotations

from pathlib import Path

import pytest

from deployer.environments.failures import failure_of
from deployer.environments.indexes import read_sources
from deployer.environments.installers import Pip, Uv
from deployer.environments.interpreters import Interpreter
from deployer.environments.runs import installer_variables
from deployer.errors import InstallError, NoSpaceError, ResolutionError

PYTHON = Interpreter(Path("/usr/bin/python3"), "3.11.7", "cpython", "x", Path("/usr/lib"))


def test_logins_are_taken_out_of_addresses() -> None:
    sources = read_sources("https://me:p%40ss@example.org:8443/simple?x=1")
    assert sources.index == "https://example.org:8443/simple?x=1"
    assert sources.netrc == 'machine example.org login "me" password "p@ss"\n'


def test_addresses_without_logins_stay_as_they_are() -> None:
    sources = read_sources(None, ["https://example.org/simple/"], ["/srv/wheels"])
    assert sources.index is None
    assert sources.extra_indexes == ("https://example.org/simple/",)
    assert sources.find_links == ("/srv/wheels",)
    assert sources.netrc == ""


def test_an_installer_gets_the_ca_bundle_and_proxies_and_nothing_else_of_ours() -> None:
    ours = {
        "PATH": "/bin",
        "SSL_CERT_FILE": "/ca.pem",
        "https_proxy": "http://proxy:3128",
        "UV_PYTHON": "/usr/bin/python3",
        "PIP_INDEX_URL": "https://example.org",
        "ATOLL_DEPLOYER_TOKEN": "secret",
        "PYTHONPATH": "/evil",
        "HOME": "/root",
    }
    given = installer_variables(ours, Path("/tmp/x"))  # noqa: S108  # a name, never used
    assert set(given) == {
        *("PATH", "SSL_CERT_FILE", "https_proxy", "HOME", "TMPDIR", "LANG"),
        *("UV_HTTP_RETRIES", "UV_PYTHON_DOWNLOADS", "PIP_CONFIG_FILE"),
    }
    assert given["HOME"] == "/tmp/x"  # noqa: S108  # as above
    assert given["UV_PYTHON_DOWNLOADS"] == "never"


def test_uv_resolves_and_installs_under_the_same_words() -> None:
    sources = read_sources(
        "https://b.example/s", ["https://a.example/s"], ["/srv/wheels"], "2026-01-01"
    )
    uv = Uv(Path("/uv"), Path("/cache"), sources)
    words = [
        *("--no-build", "--index-strategy", "first-index"),
        *("--default-index", "https://b.example/s", "--index", "https://a.example/s"),
        *("--find-links", "/srv/wheels", "--exclude-newer", "2026-01-01"),
    ]
    for command in (
        uv.compile_command(PYTHON, Path("/in"), Path("/out")),
        uv.sync_command(Path("/venv"), Path("/lock")),
    ):
        at = command.index("--no-build")
        assert command[at : at + len(words)] == words
        assert {"--no-config", "--no-python-downloads"} <= set(command)


def test_pip_never_builds_and_never_reads_configuration() -> None:
    pip = Pip(("pip",), Path("/cache"), read_sources(None))
    for command in (
        pip.compile_command(Path("/venv"), Path("/in"), Path("/report")),
        pip.download_command(Path("/venv"), Path("/lock"), Path("/wheels")),
        pip.sync_command(Path("/venv"), Path("/lock"), Path("/wheels")),
    ):
        assert "--isolated" in command
        assert command[command.index("--only-binary") + 1] == ":all:"


@pytest.mark.parametrize(
    ("said", "kind", "cause"),
    [
        (
            (
                "error: Failed to fetch: https://pypi.org/simple/six/\n"
                "  cause: invalid peer certificate: UnknownIssuer"
            ),
            InstallError,
            "the certificate of https://pypi.org is not trusted",
        ),
        (
            (
                "error: Failed to write to the client cache\n"
                "  cause: failed to write to file `/c/x`: No space left on device (os error 28)"
            ),
            NoSpaceError,
            "the disk is full",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 122] Disk quota exceeded",
            NoSpaceError,
            "the disk is full",
        ),
        (
            (
                "WARNING: Retrying (Retry(total=0, connect=None)) after "
                "connection broken by"
                " 'NewConnectionError('Failed to establish a new connection: [Errno 111] Connection"
                " refused')': /simple/six/\n"
                "ERROR: Could not find a version that satisfies the requirement six "
                "(from versions: none)\nERROR: No matching distribution found for six"
            ),
            InstallError,
            "cannot reach the index: Connection refused",
        ),
        (
            (
                "error: No solution found when resolving dependencies\n"
                "  cause: Because tensorflow==2.4"
                " has no wheels with a matching Python ABI tag (e.g., `cp311`) and you require\n"
                "         tensorflow==2.4, we can conclude that your requirements are\n\n"
                "hint: You require CPython 3.11 (`cp311`), but we only found other wheels"
            ),
            ResolutionError,
            "tensorflow==2.4 has no wheel that fits CPython 3.11",
        ),
        (
            (
                "error: No solution found when resolving dependencies\n"
                "  cause: Because the current "
                "Python version (3.9.18) does not satisfy Python>=3.11 "
                "and ipython==9.0.0 depends on\n"
                "         Python>=3.11, we can conclude that ipython==9.0.0 cannot be used."
            ),
            ResolutionError,
            "ipython==9.0.0 needs Python>=3.11, and this is 3.9.18",
        ),
        ("thread main panicked", InstallError, "thread main panicked"),
        ("error: something new\n  cause: unheard of", InstallError, "something new"),
        ("", InstallError, "it said nothing"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_complaint_becomes_a_cause(said: str, kind: type[Exception], cause: str) -> None:
    error = failure_of(["$ uv", *said.splitlines()], doing="install the dependencies")
    assert (type(error), error.cause) == (kind, cause)
    assert error.detail == f"cannot install the dependencies: {cause}"


def test_the_evidence_is_the_last_fifty_lines() -> None:
    error = failure_of(["$ uv", *(f"line {n}" for n in range(80))], doing="x")
    assert error.evidence == tuple(f"line {n}" for n in range(30, 80))
