"""The manifest: what an author may write, and what is said about the rest."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.errors import ManifestInvalidError
from deployer.manifest import Manifest, parse_manifest
from deployer.model import HealthCheck, RestartPolicy, Strategy

MINIMAL = '[agent]\nname = "ghidra"\n'
FULL = """
[agent]
name = "ghidra"
version = "2.0.0"
description = "Reads binaries"
author = "A. Uthor"
license = "MIT"
capabilities = ["disassemble", "explain"]
entrypoint = "server/main.py"
[dependencies]
python = ">=3.9,<3.14"
packages = ["requests>=2"]
[resources]
cpu_limit = 2.0
memory_limit = "4GB"
max_concurrent_requests = 8
health_check_interval = 20
[deployment]
port = 8105
auto_restart = true
max_restarts = 4
restart_delay = 2.5
strategy = "parallel"
rehearse_data = true
socket = "inherit"
min_healthy_seconds = 3
stop_seconds = 20
[health]
path = "/ready?deep=1"
start_seconds = 90
timeout_seconds = 2
failures = 5
[env]
MODE = "50% of %(here)s ${HOME} 'x' \\"y\\" #;"
[llm]
model = "x"
[mcp_servers.ghidramcp]
command = "x"
[sub_agents.helper]
url = "y"
[future]
since = 2030-01-01
"""


def problems(text: str | bytes, filename: str = "agent.toml") -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ManifestInvalidError) as caught:
        parse_manifest(data, filename)
    return [str(problem) for problem in caught.value.problems]


def parsed(text: str) -> Manifest:
    return parse_manifest(text.encode())


def named(name: str) -> str:
    return f"[agent]\nname = {json.dumps(name)}\n"


def test_a_name_is_enough() -> None:
    manifest = parsed(MINIMAL)

    assert manifest.agent.name == "ghidra"
    assert manifest.health is None
    assert manifest.restart_policy() == RestartPolicy()
    assert manifest.health_check() == HealthCheck()


def test_everything_known_is_read() -> None:
    manifest = parsed(FULL)

    assert manifest.agent.capabilities == ("disassemble", "explain")
    assert manifest.agent.entrypoint == "server/main.py"
    assert manifest.dependencies.packages == ("requests>=2",)
    assert manifest.resources.cpu_limit == 2.0
    assert manifest.resources.memory_limit == 4_000_000_000
    assert manifest.deployment.strategy is Strategy.PARALLEL
    assert manifest.deployment.socket == "inherit"
    assert manifest.env == {"MODE": "50% of %(here)s ${HOME} 'x' \"y\" #;"}
    assert manifest.mcp_servers["ghidramcp"] == {"command": "x"}


def test_tables_and_keys_that_are_not_known_are_kept() -> None:
    manifest = parsed(MINIMAL + 'color = "red"\nmodel_config = 1\n[future]\nto_json = 5\n')

    assert json.loads(manifest.to_json()) == {
        "agent": {"name": "ghidra", "color": "red", "model_config": 1},
        "future": {"to_json": 5},
    }


def test_a_manifest_survives_being_kept() -> None:
    manifest = parsed(FULL.replace("2030-01-01", '"2030-01-01"'))

    kept = Manifest.from_json(manifest.to_json())

    assert kept == manifest
    assert kept.to_json() == manifest.to_json()


def test_what_was_left_open_stays_open_when_kept() -> None:
    default = RestartPolicy(enabled=False, max_restarts=9, delay_seconds=1)

    assert Manifest.from_json(parsed(MINIMAL).to_json()).restart_policy(default) == default


def test_a_kept_manifest_that_was_changed_is_refused() -> None:
    with pytest.raises(ManifestInvalidError, match=r"agent\.name"):
        Manifest.from_json('{"agent": {"name": "../x"}}')


def test_every_problem_is_told_with_its_place() -> None:
    told = problems(
        """
        [agent]
        version = 1.1
        [resources]
        cpu_limit = nan
        memory_limit = "lots"
        max_concurrent_requests = true
        [deployment]
        port = 22
        strategy = "yolo"
        restart_delay = -1
        [mcp_servers]
        x = "y"
        [env]
        2fast = "1"
        """
    )

    assert [line.removeprefix("agent.toml: ") for line in told] == [
        "agent.name: is missing",
        "agent.version: must be text, not 1.1",
        "resources.cpu_limit: must be a finite number, not nan",
        "resources.memory_limit: must be a size such as '512MB' or a number of bytes, not 'lots'",
        "resources.max_concurrent_requests: must be a whole number, not true",
        "deployment.port: must be 0 (any) or from 1024 to 65535, not 22",
        "deployment.restart_delay: must be at least 0, not -1",
        "deployment.strategy: must be one of 'rehearse', 'replace' or 'parallel', not 'yolo'",
        "env.2fast: is no name of a variable: letters, digits and '_', no digit first",
        "mcp_servers.x: must be a table, not 'y'",
    ]


@pytest.mark.parametrize(
    "name",
    ["a", "Agent-2_x.Y", "0", "a" * 63, "a--b", "a--1b", "constant", "apis", "my.agent"],
)
def test_these_names_are_taken(name: str) -> None:
    assert parsed(named(name)).agent.name == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", ".x", "-x", "a/b", "../x", "a b", "a\n", "a\0", "a:b", "*", "ä"),
        *("api", "API", "deploy", "check", "start", "status", "agents", "health", "supervisor"),
        *("all", "con", "NUL", "com1", "lpt9.txt", "a--1", "a--", "x--y--77", "a.", "a" * 64),
    ],
)
def test_these_names_are_refused(name: str) -> None:
    (told,) = problems(named(name))

    assert told.startswith("agent.toml: agent.name: must ")


@pytest.mark.parametrize("entrypoint", ["main.py", "./main.py", "src/a-b.c.py", "pkg.server", "x"])
def test_these_entry_points_are_taken(entrypoint: str) -> None:
    manifest = parsed(f"{MINIMAL}entrypoint = {entrypoint!r}\n")

    assert manifest.agent.entrypoint == entrypoint.removeprefix("./")


@pytest.mark.parametrize(
    "entrypoint",
    [
        *("", "main.py; touch x", "/main.py", "../main.py", "a/../b.py", "-m x.py", "-x", "a:b"),
        *("a b.py", "main.sh!", "a/.py", "x.", ".x", "a" * 256),
    ],
)
def test_these_entry_points_are_refused(entrypoint: str) -> None:
    (told,) = problems(f"{MINIMAL}entrypoint = {entrypoint!r}\n")

    assert told.startswith("agent.toml: agent.entrypoint: must be a Python file")


@pytest.mark.parametrize("version", ["1.1", "true", '"a/b"', '"../1"', '"1\\n"', '"1 2"', '"-1"'])
def test_a_version_is_text_of_one_plain_word(version: str) -> None:
    (told,) = problems(f"{MINIMAL}version = {version}\n")

    assert told.startswith("agent.toml: agent.version: must be ")


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ('"4GB"', 4 * 1000**3),
        ('"4 GiB"', 4 * 1024**3),
        ('"512MB"', 512 * 1000**2),
        ('"256mib"', 256 * 1024**2),
        ('"1.5G"', 3 * 1024**3 // 2),
        ('"9007199254740993"', 9_007_199_254_740_993),
        ("1024", 1024),
    ],
)
def test_sizes_are_read_as_people_write_them(written: str, size: int) -> None:
    manifest = parsed(f"{MINIMAL}[resources]\nmemory_limit = {written}\n")

    assert manifest.resources.memory_limit == size


@pytest.mark.parametrize(
    "written",
    [
        '"lots"',
        '"-1GB"',
        "-1",
        "0",
        '"0GB"',
        '"99999999999TB"',
        "true",
        "1.5",
        "inf",
        '"1iB"',
        "[]",
    ],
)
def test_what_is_no_size_is_refused(written: str) -> None:
    (told,) = problems(f"{MINIMAL}[resources]\nmemory_limit = {written}\n")

    assert told.startswith("agent.toml: resources.memory_limit: must be a size")


@pytest.mark.parametrize("written", ["nan", "inf", "-inf", "true", '"two"', "0", "-1", "1e9"])
def test_a_cpu_limit_is_a_sensible_number(written: str) -> None:
    (told,) = problems(f"{MINIMAL}[resources]\ncpu_limit = {written}\n")

    assert told.startswith("agent.toml: resources.cpu_limit: must be ")


def test_python_may_be_a_bare_version() -> None:
    manifest = parsed(f'{MINIMAL}[dependencies]\npython = "3.11"\n')

    assert manifest.dependencies.python == "==3.11.*"


def test_python_must_be_versions() -> None:
    assert "must be versions such as" in problems(f'{MINIMAL}[dependencies]\npython = "^3.9"\n')[0]


@pytest.mark.parametrize(
    "name",
    [
        "PORT",
        "HOST",
        "HOME",
        "TMPDIR",
        "ATOLL_AGENT_PORT",
        "ATOLL_DEPLOYER_STATE",
        "LD_PRELOAD",
        "PYTHONHOME",
    ],
)
def test_variables_of_the_server_cannot_be_chosen(name: str) -> None:
    assert problems(f'{MINIMAL}[env]\n{name} = "x"\n') == [
        f"agent.toml: env.{name}: is set by the server and cannot be chosen"
    ]


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONUNBUFFERED", "PORTAL", "_x1", "ATOLL_KEY"])
def test_other_variables_can_be_chosen(name: str) -> None:
    assert parsed(f'{MINIMAL}[env]\n{name} = "x"\n').env == {name: "x"}


@pytest.mark.parametrize("value", ['"a\\nb"', '"a\\rb"', '"a\\u0000b"', "5", '["a"]', "true"])
def test_variables_are_text_on_one_line(value: str) -> None:
    (told,) = problems(f"{MINIMAL}[env]\nA = {value}\n")

    assert told.startswith("agent.toml: env.A: must ")


def test_values_of_variables_never_enter_a_message() -> None:
    assert problems(f"{MINIMAL}[env]\nKEY = 424242\n") == [
        "agent.toml: env.KEY: must be text, not a whole number"
    ]
    assert "hunter2" not in repr(parsed(f'{MINIMAL}[env]\nKEY = "hunter2"\n'))


def test_without_a_health_table_the_port_is_asked() -> None:
    manifest = parsed(f"{MINIMAL}[resources]\nhealth_check_interval = 12\n")

    assert manifest.health_check() == HealthCheck(path=None, interval_seconds=12)


def test_the_health_table_says_how_to_ask() -> None:
    assert parsed(FULL).health_check() == HealthCheck("/ready?deep=1", 90, 20, 2, 5)


def test_an_empty_health_path_asks_the_port_alone() -> None:
    check = parsed(f'{MINIMAL}[health]\npath = ""\nstart_seconds = 5\n').health_check()

    assert (check.path, check.start_seconds) == (None, 5)


def test_the_interval_of_the_health_table_goes_first() -> None:
    text = f"{MINIMAL}[resources]\nhealth_check_interval = 12\n[health]\ninterval_seconds = 7\n"

    assert parsed(text).health_check().interval_seconds == 7


def test_the_server_fills_in_what_the_manifest_leaves_open() -> None:
    manifest = parsed(f"{MINIMAL}[deployment]\nmax_restarts = 8\n")
    default = RestartPolicy(enabled=False, max_restarts=1, delay_seconds=90)

    policy = manifest.restart_policy(default)

    assert policy == RestartPolicy(
        enabled=False, max_restarts=8, delay_seconds=90, max_delay_seconds=90
    )
    assert manifest.health_check(HealthCheck(interval_seconds=3)).interval_seconds == 3


@pytest.mark.parametrize("path", ["health", "/a b", "/a\\n", "http://x/", "/é"])
def test_a_health_path_is_a_plain_http_path(path: str) -> None:
    assert "must be an HTTP path" in problems(f'{MINIMAL}[health]\npath = "{path}"\n')[0]


def test_a_byte_order_mark_is_skipped() -> None:
    assert parse_manifest(b"\xef\xbb\xbf" + MINIMAL.encode()).agent.name == "ghidra"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_named(encoding: str) -> None:
    assert problems(MINIMAL.encode(encoding)) == [
        "agent.toml: is UTF-16 or UTF-32: save it as UTF-8"
    ]


def test_bytes_that_are_no_text_are_a_problem() -> None:
    assert problems(b'[agent]\nname = "\xe9"\n') == [
        "agent.toml: is not UTF-8: byte 16 cannot be read"
    ]


def test_syntax_is_told_with_its_line() -> None:
    (told,) = problems("[agent\n")

    assert told.startswith("agent.toml: is not TOML: ")
    assert "line 1" in told


def test_size_is_limited() -> None:
    assert problems("#" * 65_537) == ["agent.toml: must have at most 65536 bytes, not 65537"]


DEEP_KEY = ".".join("a" * 32)


@pytest.mark.parametrize(
    "text",
    [
        f"{'.'.join('a' * 10_000)} = 1",
        f"{DEEP_KEY} = 1",
        f"x = 1\n[{DEEP_KEY}]",
        f"x = {{ {DEEP_KEY} = 1 }}",
        " . ".join(['"a"'] * 32) + " = 1",
        f'x = """a"""", {DEEP_KEY} = 1, "y" = 2',
        "a = " + "[" * 32,
        "a = " + "[" * 5_000 + "]" * 5_000,
        "a = " + "{a=" * 5_000,
        f"[{DEEP_KEY[:-2]}]\n{DEEP_KEY[:-2]} = 1",
    ],
)
def test_what_is_nested_too_deeply_is_refused_at_once(text: str) -> None:
    began = time.process_time()

    (told,) = problems(f"{MINIMAL}{text}\n")

    assert told.startswith("agent.toml: is nested too deeply")
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        'A = "' + '\\"' * 30_000,
        "A = '" + "\n'" * 20_000,
        'A = """' + '\\"' * 30_000,
    ],
)
def test_a_text_without_an_end_is_refused_at_once(text: str) -> None:
    began = time.process_time()

    assert problems(f"{MINIMAL}{text}\n")[0].startswith("agent.toml: is not TOML")

    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text",
    [
        f"description = {'a.' * 100!r}",
        f'description = """{"[" * 100}\n{"." * 100}"""',
        f"description = '''{'[' * 100}'''",
        f"# {'.' * 100} {'[' * 100}",
        'description = "\\"' + "." * 100 + '"',
        f"x = [{', '.join(['1.5'] * 100)}]",
        f"x = [{', '.join(['[1]'] * 100)}]",
    ],
)
def test_dots_and_brackets_in_text_are_no_depth(text: str) -> None:
    assert parsed(f"{MINIMAL}{text}\n").agent.name == "ghidra"


@pytest.mark.parametrize(
    "text",
    [f"x = {'9' * 5_000}", "x = 2025-02-30", "x = 1\nx = 2", 'x = "\\ud800"', "x = 25:00:00"],
)
def test_values_that_cannot_be_read_are_a_problem(text: str) -> None:
    assert len(problems(f"{MINIMAL}{text}\n")) == 1


@pytest.mark.parametrize(
    "document",
    [{"name": "old", "version": "1.0"}, {"agent": {"name": "old", "version": "1.0"}}],
)
def test_atolls_older_json_is_read(document: dict[str, Any]) -> None:
    document["resources"] = {"cpu_limit": 1}

    manifest = parse_manifest(json.dumps(document).encode(), "agent.json")

    assert (manifest.agent.name, manifest.agent.version) == ("old", "1.0")
    assert manifest.resources.cpu_limit == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1]", "agent.json: must hold one object"),
        ("{", "agent.json: is not JSON: "),
        ('{"name": "a", "name": "b"}', "agent.json: holds a value that cannot be read: the same"),
        ('{"name": "a", "x": NaN}', "agent.json: holds a value that cannot be read: NaN"),
        ('{"name": "a", "x": "\\ud800"}', "agent.json: holds text with broken characters"),
        ('{"name": "a", "x": ' + "[" * 30_000, "agent.json: is "),
        ('{"name": "a", "x": ' + "[" * 40 + "]" * 40 + "}", "agent.json: is nested too deeply"),
        ('{"name": "a", "x": ' + "9" * 5_000 + "}", "agent.json: holds a value that cannot"),
        ('{"version": "1"}', "agent.json: agent.name: is missing"),
        ('{"agent": "x"}', "agent.json: agent: must be a table, not 'x'"),
    ],
)
def test_json_is_bounded_alike(text: str, told: str) -> None:
    assert problems(text, "agent.json")[0].startswith(told)


@given(st.binary(max_size=200))
@example(b"[agent]\nname='x'\n[agent.x]\ny=nan")
@example(b"agent=5")
@example(b"[[agent]]")
@example(b"env.''='x'\n[agent]\nname='x'")
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for filename in ("agent.toml", "agent.json"):
        try:
            manifest = parse_manifest(data, filename)
        except ManifestInvalidError as error:
            assert error.problems  # noqa: PT017  # either end is fine, but an error explains itself
        else:
            assert Manifest.from_json(manifest.to_json()).agent.name == manifest.agent.name


@given(
    st.dictionaries(
        st.sampled_from(sorted(Manifest.model_fields)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text("aé\0/", max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["name", "port", "path", "x"]), inner, max_size=3)
            ),
            max_leaves=8,
        ),
    )
)
def test_no_shape_breaks_the_reader(document: dict[str, Any]) -> None:
    try:
        data = json.dumps(document, allow_nan=False).encode()
    except ValueError:
        return
    try:
        manifest = parse_manifest(data, "agent.json")
    except ManifestInvalidError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest
