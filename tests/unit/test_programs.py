"""Program configs, launch policies and supervisord.conf as text; nothing is started."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from supervisor.options import UnhosedConfigParser

from deployer.errors import ProgramConfigError
from deployer.launch_policies import LaunchPolicy, policy_bytes
from deployer.launcher import LaunchError, read_policy
from deployer.model import RestartPolicy
from deployer.program_configs import inherited_address, parse_program
from deployer.programs import Programs
from deployer.state_dir import StateDir
from deployer.supervisord_confs import read_credentials

NAME = "weather--7"
SOURCE = Path(__file__).parents[2]


def policy(program: str = NAME, **fields: object) -> LaunchPolicy:
    values: dict[str, object] = {
        "program": program,
        "executable": Path("/venv/bin/python"),
        "arguments": ("main.py",),
        "directory": Path("/code"),
        "port": 8101,
    }
    return LaunchPolicy(**(values | fields))  # type: ignore[arg-type]  # of any field


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return make_state(tmp_path)


def make_state(root: Path) -> StateDir:
    state = StateDir(root)
    state.logs.mkdir(parents=True)
    return state


# Program configs ---------------------------------------------------------------------------------


def test_a_config_is_one_section_with_the_launcher_as_its_command(state: StateDir) -> None:
    programs = Programs(state, python="/python")

    config = parse_program(NAME, programs.render(policy()))

    launcher = SOURCE / "deployer" / "launcher.py"
    assert config.command == f"/python -I -S {launcher} 8101 {state.root}/policies/{NAME}"
    assert (config.autostart, config.startsecs, config.stopasgroup) == (False, 1, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_config_says_which_socket_its_program_is_given(state: StateDir, host: str) -> None:
    config = parse_program(NAME, Programs(state).render(policy(inherits_from=host)))

    assert inherited_address(config.command) == (host, 8101)


@pytest.mark.parametrize(
    "command", ["", "x", "launcher.py 8101 policy", "x y z inherit 127.0.0.1", "'", "inherit ::1"]
)
def test_other_commands_ask_for_no_socket(command: str) -> None:
    assert inherited_address(command) is None


def test_no_user_and_no_environment_reach_a_config(state: StateDir) -> None:
    text = Programs(state).render(policy(variables={"LD_PRELOAD": "/evil"}))

    assert "environment" not in text
    assert "user=" not in text
    assert "evil" not in text


def test_restart_numbers_stand_in_the_config_for_a_plain_supervisord(state: StateDir) -> None:
    programs = Programs(state)

    config = parse_program(NAME, programs.render(policy(), RestartPolicy(max_restarts=5)))
    still = parse_program(NAME, programs.render(policy(), RestartPolicy(enabled=False)))

    assert config.startretries == 5
    assert config.autorestart
    assert still.autorestart is False


def test_a_fraction_of_a_second_to_stop_is_rounded_up(state: StateDir) -> None:
    config = parse_program(NAME, Programs(state).render(policy(stop_seconds=0.2)))

    assert config.stopwaitsecs == 1


@pytest.mark.parametrize(
    "folder",
    ["with space", "100%", "a%%b", "%s", "%(ENV_HOME)s", "x#y", "it's", 'q"', "ünï", "a,b"],
)
def test_odd_paths_are_spelled_so_that_supervisord_reads_them(tmp_path: Path, folder: str) -> None:
    state = make_state(tmp_path / folder)

    config = parse_program(NAME, Programs(state).render(policy()))

    assert config.stdout_logfile == str(state.stdout_log(NAME))
    assert str(state.policy(NAME)) in config.command.replace("'\"'\"'", "'")


@pytest.mark.parametrize(
    "folder", ["%(here)s", "x ;y", "x #y", "new\nline", "car\rriage", "\udcff"]
)
def test_paths_that_supervisord_cannot_read_are_refused(tmp_path: Path, folder: str) -> None:
    state = make_state(tmp_path / folder)

    with pytest.raises(ProgramConfigError, match="cannot"):
        Programs(state).render(policy())


@pytest.mark.parametrize("name", ["weather", "../x--1", "a b--1", "a--1\n[program:b]", "a]--1", ""])
def test_a_name_that_is_no_agents_program_is_refused(state: StateDir, name: str) -> None:
    with pytest.raises(ProgramConfigError, match="not the name of an agent"):
        Programs(state).render(policy(name))


def test_what_is_written_can_be_read_by_its_owner_alone(state: StateDir) -> None:
    Programs(state).write(policy())

    for path in (state.policy(NAME), state.program_config(NAME)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_written_when_the_config_is_refused(tmp_path: Path) -> None:
    state = make_state(tmp_path / "x ;y")

    with pytest.raises(ProgramConfigError):
        Programs(state).write(policy())

    assert [path.name for path in state.root.iterdir()] == ["logs"]


def test_names_are_those_of_agents_only(state: StateDir) -> None:
    programs = Programs(state)
    programs.write(policy("b--1"))
    programs.write(policy("a--2"))
    (state.conf_d / "nginx.conf").touch()

    assert programs.names() == ("a--2", "b--1")


def test_a_deleted_program_leaves_its_logs(state: StateDir) -> None:
    programs = Programs(state)
    programs.write(policy())
    state.stdout_log(NAME).touch()

    programs.delete(NAME)
    programs.delete(NAME)

    assert programs.names() == ()
    assert not state.policy(NAME).exists()
    assert state.stdout_log(NAME).exists()


def test_a_config_goes_where_a_foreign_supervisord_reads_it(state: StateDir) -> None:
    foreign = state.root / "etc"

    Programs(state, conf_d=foreign).write(policy())

    assert (foreign / f"{NAME}.conf").exists()


# Quarantine --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"[program:bad--1]\ncommand=100%\n",
        b"[program:bad--1]\ncommand=x\nuser=nobody-of-that-name\n",
        b"[program:bad--1]\ncommand=x\nstdout_logfile=/nowhere/x.log\n",
        b"[program:bad--1]\ncommand=\xff\n",
        b"[program:bad--1]\ncommand=%(ENV_HOME)s\n",
        b"[program:bad--1]\ncommand=x\n[program:victim--1]\nuser=root\n",
        b"[program:bad--1]\ncommand=x\n[DEFAULT]\nautostart=true\n",
        b"[program:victim--1]\ncommand=x\n",
        b"[supervisord]\nminfds=9\n",
        b"no section\n",
        b"",
    ],
)
def test_a_broken_config_is_moved_aside_alone(state: StateDir, content: bytes) -> None:
    programs = Programs(state)
    programs.write(policy())
    (state.conf_d / "bad--1.conf").write_bytes(content)

    [(name, reason)] = programs.quarantine_broken()

    assert name == "bad--1.conf"
    assert reason
    assert (state.quarantine / "bad--1.conf").read_bytes() == content
    assert programs.names() == (NAME,)


def test_other_peoples_configs_are_not_touched(state: StateDir) -> None:
    foreign = state.root / "etc"
    foreign.mkdir()
    (foreign / "theirs.conf").write_text("broken")

    assert Programs(state, conf_d=foreign).quarantine_broken() == ()


def test_an_empty_conf_d_has_nothing_to_quarantine(state: StateDir) -> None:
    assert Programs(state).quarantine_broken() == ()


# supervisord.conf --------------------------------------------------------------------------------


def test_the_credentials_can_be_found_again(state: StateDir) -> None:
    credentials = Programs(state).write_supervisord_conf(["/bin/true"])

    assert read_credentials(state) == credentials
    assert stat.S_IMODE(state.supervisord_conf.stat().st_mode) == 0o600


def test_a_percent_sign_in_the_api_command_arrives_as_one(state: StateDir) -> None:
    Programs(state).write_supervisord_conf(["/bin/echo", "100%", "two words"])

    parser = UnhosedConfigParser()
    parser.read(str(state.supervisord_conf))
    assert parser.saneget("program:atoll-deployer", "command") == "/bin/echo 100% 'two words'"


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("x" * 120, "socket's path"),
        ("[b]", "pattern"),
        ("%(here)s", "however it is quoted"),
        ("a ;b", "however it is quoted"),
        ("new\nline", "control character"),
    ],
)
def test_an_unusable_state_directory_is_refused_with_the_reason(
    short_path: Path, folder: str, why: str
) -> None:
    state = StateDir(short_path / folder)

    with pytest.raises(ProgramConfigError, match=why):
        Programs(state).write_supervisord_conf(["/bin/true"])

    assert not state.root.exists()


def test_a_broken_program_config_is_told_before_supervisord_starts(state: StateDir) -> None:
    state.conf_d.mkdir()
    (state.conf_d / "bad--1.conf").write_text("[program:bad--1]\ncommand=100%\n")

    with pytest.raises(ProgramConfigError, match="bad--1"):
        Programs(state).write_supervisord_conf(["/bin/true"])


def test_the_shipped_program_config_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    text = (SOURCE / "conf.d" / "atoll-deployer.conf").read_text()

    config = parse_program("atoll-deployer", text)

    assert (config.startsecs, bool(config.autorestart)) == (0, True)


# Launch policies ---------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))
NAMES = TEXTS.filter(lambda name: name and "=" not in name)


@given(arguments=st.lists(TEXTS), variables=st.dictionaries(NAMES, TEXTS))
@example(arguments=["\\n", "\n", "\\", "\\\\n", "\r\n", ""], variables={"A": "x\nvariable B=1"})
@example(arguments=["end", "'\"%s%(here)s ;#", "\x85\u2028"], variables={"ü b": "=="})
def test_any_text_arrives_exactly(arguments: list[str], variables: dict[str, str]) -> None:
    written = policy(arguments=tuple(arguments), variables=variables, umask=0o027, open_files=99)

    read = read_policy(policy_bytes(written))

    assert read.arguments == [text.encode() for text in arguments]
    assert read.variables == {key.encode(): value.encode() for key, value in variables.items()}
    assert (read.executable, read.directory) == (b"/venv/bin/python", b"/code")
    assert (read.program, read.umask, read.resources.open_files) == (NAME.encode(), 0o027, 99)


def test_bytes_that_are_no_text_arrive_exactly() -> None:
    assert read_policy(policy_bytes(policy(arguments=("\udcff",)))).arguments == [b"\xff"]


@pytest.mark.parametrize(
    "fields",
    [
        {"arguments": ("a\0b",)},
        {"variables": {"A": "\0"}},
        {"variables": {"A=B": "x"}},
        {"variables": {"": "x"}},
        {"arguments": ("\ud800",)},
        {"directory": Path("code")},
        {"executable": Path("python")},
    ],
)
def test_what_no_process_could_be_started_with_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ProgramConfigError, match=f"cannot start {NAME}"):
        policy_bytes(policy(**fields))


@given(st.integers(min_value=0))
def test_a_policy_cut_short_is_never_taken_for_a_whole_one(length: int) -> None:
    whole = policy_bytes(policy(arguments=("a\nend\n",)))

    with pytest.raises(LaunchError):
        read_policy(whole[: length % len(whole)])


@pytest.mark.parametrize("line", [b"umask x", b"open_files", b"unheard of"])
def test_a_line_that_is_not_understood_is_refused(line: bytes) -> None:
    with pytest.raises(LaunchError, match="line"):
        read_policy(b"atoll-launch-policy 1\n" + line + b"\nend\n")


# Halves ------------------------------------------------------------------------------------------


def test_what_a_killed_writer_left_half_done_is_removed(state: StateDir) -> None:
    programs = Programs(state)
    programs.write(policy())
    halves = [
        state.policies / f".{NAME}.abcd_123",
        state.conf_d / f".{NAME}.conf.abcd_123",
        state.root / ".settings.json.abcd_123",
    ]
    for half in halves:
        half.write_bytes(b"half")

    programs.remove_halves(before=halves[0].stat().st_mtime - 1)
    assert all(half.exists() for half in halves), "somebody may be writing them now"
    programs.remove_halves(before=halves[-1].stat().st_mtime + 1)

    assert not any(half.exists() for half in halves)
    assert programs.names() == (NAME,)
    assert state.program_config(NAME).exists()


def test_in_a_conf_d_of_others_only_halves_of_ours_are_removed(tmp_path: Path) -> None:
    conf_d = tmp_path / "conf.d"
    conf_d.mkdir()
    ours, theirs = conf_d / f".{NAME}.conf.abcd_123", conf_d / ".nginx.conf.abcd_123"
    ours.touch()
    theirs.touch()

    programs = Programs(make_state(tmp_path / "state"), conf_d=conf_d)
    programs.remove_halves(before=ours.stat().st_mtime + 1)

    assert (ours.exists(), theirs.exists()) == (False, True)
