"""Settings: where they come from, who wins, and what is said when they are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from deployer.errors import SettingsInvalidError
from deployer.settings import Settings, load_settings
from deployer.signing_keys import SigningKey

Writer = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Writer:
    def write(text: str, name: str = "config.json") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def problems(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> list[str]:
    with pytest.raises(SettingsInvalidError) as caught:
        load_settings(config, environ or {}, overrides or {})
    return [str(problem) for problem in caught.value.problems]


def test_nothing_given_means_the_defaults() -> None:
    settings = load_settings(None, {}, {})

    assert (settings.host, settings.api_port, settings.auth) == ("127.0.0.1", 8080, "token")
    assert settings.agent_ports == range(8100, 8200)
    assert settings.state_dir.is_absolute()


def test_atolls_own_configuration_file_is_understood(written: Writer) -> None:
    config = written(
        """{
          // the deployment server
          "deployment_server": {
            "api_port": 8080, "base_port": 8100, "max_agents": 10, "host": "localhost",
            "restart_on_failure": false, "max_restarts": 5, "health_check_interval": 20,
          },
          "agents": [{"name": "ghidra", "port": 8103, "config": "x.toml"}, {"name": "any"}],
          "llm": {"model": "x"},
        }"""
    )

    settings = load_settings(config, {}, {})

    assert settings.agent_ports == range(8100, 8110)
    assert settings.port_preferences == {"ghidra": 8103}
    assert not settings.defaults.restart_policy.enabled
    assert settings.defaults.restart_policy.max_restarts == 5
    assert settings.defaults.health_check.interval_seconds == 20


def test_keys_may_stand_at_the_top(written: Writer) -> None:
    assert load_settings(written('{"api_port": 9000}'), {}, {}).api_port == 9000


def test_toml_is_read_by_its_suffix(written: Writer) -> None:
    config = written("[deployment_server]\napi_port = 9000\nlimits.depth = 5\n", "config.toml")

    settings = load_settings(config, {}, {})

    assert (settings.api_port, settings.limits.depth) == (9000, 5)


def test_the_command_line_beats_variables_and_variables_beat_the_file(written: Writer) -> None:
    config = written('{"api_port": 1001, "max_agents": 11, "agent_base_port": 9001}')
    environ = {"ATOLL_DEPLOYER_API_PORT": "1002", "ATOLL_DEPLOYER_MAX_AGENTS": "12"}

    settings = load_settings(config, environ, {"api_port": 1003, "max_agents": None})

    assert (settings.api_port, settings.max_agents) == (1003, 12)
    assert settings.agent_base_port == 9001


def test_variables_are_read_by_the_type_of_their_setting() -> None:
    environ = {
        "ATOLL_DEPLOYER_LIMITS_UPLOAD_BYTES": "64MiB",
        "ATOLL_DEPLOYER_PYTHON_DOWNLOADS": "true",
        "ATOLL_DEPLOYER_RUNTIME_REQUIREMENTS": "atoll==2.0.1, six",
        "ATOLL_DEPLOYER_INDEX_URL": "https://index.example/simple",
        "ATOLL_DEPLOYER_AGENT_HOST": "12",
    }

    settings = load_settings(None, environ, {})

    assert settings.limits.upload_bytes == 64 * 1024**2
    assert settings.python.downloads
    assert settings.runtime_requirements == ("atoll==2.0.1", "six")
    assert settings.agent_host == "12"


def test_variables_of_the_client_are_no_settings() -> None:
    environ = {"ATOLL_DEPLOYER_SERVER": "http://x", "ATOLL_DEPLOYER_TOKEN": "x", "PATH": "/bin"}

    assert load_settings(None, environ, {}) == load_settings(None, {}, {})


def test_every_problem_is_told_at_once_with_its_place(written: Writer) -> None:
    config = written('{"api_prot": 1, "limits": {"depth": 900}, "python": 5}')

    told = problems(config, {"ATOLL_DEPLOYER_MAX_AGENTS": "lots"}, {"auth": "maybe"})

    assert told == [
        f"{config}: api_prot: is not known; did you mean 'api_port'?",
        f"{config}: python: must be a table",
        "ATOLL_DEPLOYER_MAX_AGENTS: must be a whole number, not 'lots'",
        "--auth: must be one of 'token' or 'none', not 'maybe'",
        f"{config}: limits.depth: must be at most 64, not 900",
    ]


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"ATOLL_DEPLOYER_AUHT": "none"}, "did you mean 'ATOLL_DEPLOYER_AUTH'?"),
        ({"ATOLL_DEPLOYER_API_PORT": "true"}, "must be a whole number, not true"),
        ({"ATOLL_DEPLOYER_API_PORT": "0"}, "must be at least 1, not 0"),
        ({"ATOLL_DEPLOYER_LIMITS_RATIO": "Infinity"}, "must be a number, not 'Infinity'"),
        ({"ATOLL_DEPLOYER_HOST": "a b"}, "must be text without spaces"),
        ({"ATOLL_DEPLOYER_STATE_DIR": "a\nb"}, "must be a path without control characters"),
        ({"ATOLL_DEPLOYER_STATE_DIR": "~nobody-at-all/x"}, "must be a path that leads somewhere"),
    ],
)
def test_a_wrong_variable_is_named_with_what_would_be_right(
    environ: dict[str, str], told: str
) -> None:
    (problem,) = problems(environ=environ)

    assert problem.startswith(f"{next(iter(environ))}: ")
    assert told in problem


def test_two_spellings_of_one_setting_are_a_problem(written: Writer) -> None:
    config = written('{"base_port": 9000, "agent_base_port": 9100}')

    assert problems(config) == [
        f"{config}: agent_base_port: means the same as 'base_port': keep one of them"
    ]


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("{", "config.json", "is not JSON"),
        ("[1]", "config.json", "must hold a table of settings"),
        ('{"host": "a", "host": "b"}', "config.json", "is not JSON"),
        ('{"deployment_server": 5}', "config.json", "must be a table"),
        ("[" * 100_000, "config.json", "is nested too deeply"),
        ("a = ", "config.toml", "is not TOML"),
        ("\x00", "config.json", "is not JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem(
    written: Writer, text: str, name: str, told: str
) -> None:
    assert told in problems(written(text, name))[0]


def test_a_file_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "none.json"

    assert problems(path) == [f"{path}: cannot be read: No such file or directory"]


def test_without_a_token_only_this_machine_may_reach_the_api() -> None:
    (problem,) = problems(overrides={"host": "0.0.0.0", "auth": "none"})

    assert problem.startswith("--auth: must be 'token' while host is '0.0.0.0'")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_without_a_token_loopback_is_fine(host: str) -> None:
    assert load_settings(None, {}, {"host": host, "auth": "none"}).auth == "none"


def test_the_ports_of_agents_must_not_hold_the_apis_own() -> None:
    (problem,) = problems(overrides={"api_port": 8150})

    assert "8100-8199 must not hold the API's own, 8150" in problem


def test_the_ports_of_agents_must_exist() -> None:
    (problem,) = problems(overrides={"agent_base_port": 65500})

    assert problem == "max_agents: must be at most 36, not 100: agents' ports start at 65500"


@pytest.mark.parametrize(
    ("host", "bind", "expected"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("0.0.0.0", None, "0.0.0.0"),
        ("10.1.2.3", None, "0.0.0.0"),
        ("0.0.0.0", "10.1.2.3", "10.1.2.3"),
    ],
)
def test_agents_bind_loopback_as_long_as_the_api_does(
    host: str, bind: str | None, expected: str
) -> None:
    assert Settings(host=host, agent_bind=bind).bind_address == expected


def test_paths_in_a_file_are_meant_from_its_directory(written: Writer, tmp_path: Path) -> None:
    config = written(
        '{"state_dir": "state", "find_links": ["wheels", "https://x/y"],'
        ' "python": {"search": ["/opt/python"]}}'
    )

    settings = load_settings(config, {}, {})

    assert settings.state_dir == tmp_path / "state"
    assert settings.find_links == (str(tmp_path / "wheels"), "https://x/y")
    assert settings.python.search == (Path("/opt/python"),)


def test_the_state_directory_is_free_of_symlinks(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert Settings(state_dir=tmp_path / "link" / "x").state_dir == tmp_path / "real" / "x"


def test_settings_survive_their_own_file(tmp_path: Path) -> None:
    settings = load_settings(
        None,
        {},
        {
            "state_dir": str(tmp_path),
            "supervisor.password": "secret",
            "limits.upload_bytes": "5MB",
            "find_links": "a,b",
        },
    )
    path = tmp_path / "settings.json"
    path.write_text(settings.to_json())

    assert Settings.read(path) == settings


def test_a_foreign_settings_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"api_port": "x"}')

    with pytest.raises(SettingsInvalidError, match="api_port: must be a whole number"):
        Settings.read(path)


def test_a_password_never_enters_a_message(written: Writer) -> None:
    config = written('{"supervisor": {"password": 424242}}')

    assert problems(config) == [f"{config}: supervisor.password: must be text, not a whole number"]
    assert "hunter2" not in repr(load_settings(None, {}, {"supervisor.password": "hunter2"}))


# Whose packages are trusted ---------------------------------------------------------------------


def test_a_trusted_key_is_a_line_or_a_file_and_may_be_for_some_agents(
    written: Writer, tmp_path: Path
) -> None:
    first, second = SigningKey.generate().public, SigningKey.generate().public
    file = tmp_path / "second.pub"
    file.write_text(f"untrusted comment: minisign public key\n{second.line}\n")
    entries = f'["{first.line}", {{"key": "{file}", "agents": ["billing-*"]}}]'
    settings = load_settings(written(f'{{"trust": {{"keys": {entries}}}}}'), {}, {})
    file.unlink()

    assert [each.public for each in settings.trust.keys] == [first, second]
    assert [each.agents for each in settings.trust.keys] == [("*",), ("billing-*",)]
    assert Settings.model_validate_json(settings.to_json()) == settings


def test_trusted_keys_are_taken_from_a_variable() -> None:
    lines = [SigningKey.generate().public.line for _ in range(2)]
    environ = {"ATOLL_DEPLOYER_TRUST_KEYS": ",".join(lines), "ATOLL_DEPLOYER_TRUST_REQUIRE": "true"}
    settings = load_settings(None, environ, {})

    assert [each.key for each in settings.trust.keys] == lines
    assert settings.trust.require


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ('"RWnonsense"', "must be a public key of minisign"),
        ('"keys/ops.pub"', "or the absolute path of a file that holds one"),
        ('"/nowhere/ops.pub"', "cannot be read from '/nowhere/ops.pub': No such file"),
        ('"/dev/null"', "must be a public key of minisign"),
        ('{"agents": ["a"]}', "is missing"),
    ],
)
def test_what_is_no_trusted_key_is_told(written: Writer, entry: str, complaint: str) -> None:
    found = problems(written(f'{{"trust": {{"keys": [{entry}]}}}}'))

    assert len(found) == 1
    assert "trust.keys[0].key" in found[0]
    assert complaint in found[0]


def test_signatures_are_not_required_of_nobody(written: Writer) -> None:
    found = problems(written('{"trust": {"require": true}}'))

    assert "trust.require: must be false while trust.keys is empty" in found[0]


@pytest.mark.parametrize(
    "moment", ["2026-01-31", "2026-01-31T12:00:00Z", "2026-01-31t12:00:00.5+01:00"]
)
def test_exclude_newer_is_a_date_or_a_time_with_its_zone(moment: str) -> None:
    assert load_settings(None, {}, {"exclude_newer": moment}).exclude_newer == moment


@pytest.mark.parametrize(
    "moment",
    ["now", "2026", "2026-02-30", "2026-01-31T12:00:00", "20260131", "2026-01-31T25:00:00Z"],
)
def test_another_exclude_newer_is_refused(moment: str) -> None:
    (told,) = problems(overrides={"exclude_newer": moment})
    assert told.startswith("--exclude-newer: must be a date such as '2026-01-31'")


def test_an_index_that_is_not_allowed_is_refused() -> None:
    allowed = {"install.allowed_indexes": "https://pypi.example/team"}
    (told,) = problems(overrides=allowed)
    assert told.endswith("allowed_indexes does not allow https://pypi.org/simple")
    (told,) = problems(overrides={**allowed, "index_url": "https://me:secret@pypi.example/teams"})
    assert told.endswith("does not allow https://pypi.example/teams")
    taken = {**allowed, "index_url": "https://me:secret@pypi.example/team/simple"}
    assert load_settings(None, {}, taken).install.allowed_indexes
    (told,) = problems(overrides={**taken, "find_links": "/srv/wheels"})
    assert told.endswith("does not allow /srv/wheels")


@pytest.mark.parametrize(
    ("also", "told"),
    [
        ({"installer": "pip"}, "allow_sdist needs uv"),
        ({"extra_index_urls": "https://a.example/simple"}, "goes with no extra_index_urls"),
        ({"install.require_hashes": "true"}, "exclude each other"),
    ],
)
def test_source_is_built_only_where_its_rules_hold(also: dict[str, str], told: str) -> None:
    (problem,) = problems(overrides={"install.allow_sdist": "true", **also})
    assert told in problem


def test_pip_is_given_no_second_index() -> None:
    urls = {"installer": "pip", "extra_index_urls": "https://pypi.example/simple"}
    (told,) = problems(overrides=urls)
    assert "extra_index_urls need uv" in told


def test_the_log_is_told_how_to_write_in_words_that_are_listed() -> None:
    found = problems(overrides={"log_format": "xml", "log_level": "loud"})

    assert [line.partition(":")[0] for line in found] == ["--log-format", "--log-level"]
    assert "'text' or 'json'" in found[0]
