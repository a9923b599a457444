"""The command line without a server: what it finds, what it says, how it ends."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import deployer
from deployer import settings, state_dir
from deployer.cli import failures, main
from deployer.cli.connections import DEFAULT_URL, Address, find_server
from deployer.cli.durations import age
from deployer.cli.names import complete_names
from deployer.cli.overviews import View
from deployer.cli.progress import StepLines
from deployer.cli.terminals import Terminal, printable
from deployer.client import Agent, Step
from deployer.client.nouns import AgentUsage
from deployer.errors import (
    AuthenticationRequiredError,
    DeployerError,
    ForbiddenError,
    PackageInvalidError,
    Problem,
    ServeRefusedError,
    ServerUnreachableError,
    SettingsInvalidError,
    StartError,
)

MANIFEST = '[agent]\nname = "greeter"\nversion = "1.0"\n'


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("ATOLL_DEPLOYER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory as `serve` leaves it, with nobody on its port."""
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps({"host": "127.0.0.1", "api_port": 1}))
    (folder / "token").write_text("t0ken\n")
    return folder


# The server --------------------------------------------------------------------------------------


def test_the_local_server_is_found_in_its_state_directory(state: Path) -> None:
    assert find_server(None, None, state) == Address("http://127.0.0.1:1", "t0ken")


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("box", "http://box:1")],
)
def test_an_address_to_bind_becomes_one_to_connect_to(state: Path, host: str, url: str) -> None:
    (state / "settings.json").write_text(json.dumps({"host": host, "api_port": 1}))
    assert find_server(None, None, state).url == url


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "x"}', '{"host": 1, "api_port": "x"}'])
def test_a_state_directory_without_sound_settings_means_the_default(state: Path, text: str) -> None:
    (state / "settings.json").write_text(text)
    assert find_server(None, None, state).url == DEFAULT_URL


def test_no_state_directory_means_the_default_without_a_token(tmp_path: Path) -> None:
    assert find_server(None, None, tmp_path / "none") == Address(DEFAULT_URL, None)


def test_a_named_token_beats_the_one_in_the_state_directory(state: Path) -> None:
    assert find_server(None, "other", state).token == "other"


def test_the_local_token_is_not_sent_to_another_server(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.cli.connections.default_state_dir", lambda: state)
    assert find_server("http://127.0.0.1:2", None, None).token is None
    assert find_server("http://127.0.0.1:1/", None, None).token == "t0ken"


def test_the_local_token_is_sent_where_both_are_named(state: Path) -> None:
    assert find_server("https://proxy.example", None, state).token == "t0ken"


def test_a_token_does_not_show_where_an_address_is_printed(state: Path) -> None:
    assert "t0ken" not in repr(find_server(None, None, state))


def test_client_and_server_mean_the_same_default_directory() -> None:
    assert state_dir.default_state_dir() == settings.default_state_dir()


# How commands end --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeployerError("x"), 1),
        (PackageInvalidError("x"), 1),
        (SettingsInvalidError("x"), 2),
        (ServeRefusedError("x"), 2),
        (ServerUnreachableError("x"), 3),
        (AuthenticationRequiredError("x"), 4),
        (ForbiddenError("x"), 4),
    ],
)
def test_an_exit_code_tells_what_kind_of_error_it_was(error: DeployerError, code: int) -> None:
    assert failures.exit_code(error) == code


def test_a_server_that_is_not_there_ends_with_3_and_a_hint(state: Path) -> None:
    result = run("list", "--state-dir", state)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == (
        "cannot reach the server at http://127.0.0.1:1: connection refused"
    )
    assert result.stderr.splitlines()[1].startswith("hint: ")


def test_an_error_is_a_document_for_machines(state: Path) -> None:
    result = run("list", "--json", "--state-dir", state)
    assert result.exit_code == 3
    assert json.loads(result.stdout)["code"] == "server-unreachable"
    assert result.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [["nosuch"], ["status"], ["push", "/no/such.zip"], ["push", ".", "--strategy", "odd"]],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Walk the groups down to what can be run."""
    groups: list[tuple[str, click.Group]] = [("", main)]
    while groups:
        prefix, group = groups.pop()
        context = click.Context(group)
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None
            if isinstance(found, click.Group):
                groups.append((f"{name} ", found))
            else:
                yield prefix + name, found


def test_every_command_speaks_to_machines_and_says_what_it_does() -> None:
    for name, found in every_command():
        assert found.help, name
        if name not in {"serve", "supervisorctl", "completion"}:
            assert "as_json" in {each.name for each in found.params}, name


def test_a_stream_that_never_began_fails_like_anything_else(state: Path) -> None:
    result = run("events", "-f", "--json", "--state-dir", state)
    assert (result.exit_code, result.stderr) == (3, "")
    assert json.loads(result.stdout)["code"] == "server-unreachable"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_taught_to_complete(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_ATOLL_DEPLOYER_COMPLETE={shell}_complete" in result.stdout


def test_completion_is_silent_where_no_server_answers(state: Path) -> None:
    context = click.Context(main.get_command(click.Context(main), "status") or main)
    context.params = {"state_dir": state, "server": None, "token": None}
    assert complete_names(context, click.Argument(["name"]), "") == []


def test_an_error_reads_cause_then_evidence_then_hint() -> None:
    error = StartError(
        "cannot start greeter: it died",
        cause="ModuleNotFoundError: x",
        evidence=["Traceback:", "  boom"],
        hint="add x to requirements.txt",
    )
    assert list(failures.lines(error)) == [
        "cannot start greeter: it died",
        "cause: ModuleNotFoundError: x",
        "  | Traceback:",
        "  |   boom",
        "hint: add x to requirements.txt",
    ]


def test_a_cause_that_the_sentence_holds_already_is_not_said_twice() -> None:
    error = StartError("cannot start greeter: no free port", cause="no free port")
    assert list(failures.lines(error)) == ["cannot start greeter: no free port"]


def test_every_problem_is_listed() -> None:
    problems = [Problem("a", "x"), Problem("b", "y")]
    error = PackageInvalidError("cannot take it: a: x (and 1 more)", problems=problems)
    assert list(failures.lines(error))[1:] == ["  - a: x", "  - b: y"]


def test_all_that_is_wrong_with_the_settings_is_listed_and_ends_with_2(tmp_path: Path) -> None:
    pytest.importorskip("deployer.server")
    result = run("serve", "--state-dir", tmp_path, "--api-port", "x", "--auth", "maybe")
    assert result.exit_code == 2
    assert "--api-port" in result.stderr
    assert "--auth" in result.stderr
    assert list(tmp_path.iterdir()) == []


# What commands print -----------------------------------------------------------------------------


def test_what_an_agent_wrote_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2J\r\x07\tb é") == "a\\x1b[2J\\r\\x07\tb é"


def test_a_table_is_plain_text_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().table(("NAME", "PORT"), [("greeter", 8100), ("x", None)])
    assert capsys.readouterr().out == "NAME     PORT\ngreeter  8100\nx        -\n"


def test_pairs_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().pairs({"name": "greeter", "pid": None, "restarts": 0, "error": ""})
    assert capsys.readouterr().out == "name      greeter\nrestarts  0\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (90000, "1 d")]
)
def test_an_age_is_told_in_its_largest_unit(seconds: int, text: str) -> None:
    assert age(datetime.now(UTC) - timedelta(seconds=seconds, milliseconds=10)) == text


def test_a_step_is_a_line_once_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    with StepLines(Terminal()) as tell:
        tell(Step(name="install"))
        tell(Step(name="install", outcome="done", duration_seconds=1.25, message="3 packages"))
    assert capsys.readouterr().out == "install      done        1.2 s  3 packages\n"


def test_machines_are_told_each_change_of_a_step_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = Terminal(as_json=True)
    with StepLines(terminal) as tell:
        tell(Step.read({"name": "install", "outcome": "running"}))
        tell(Step(name="install", outcome="done", duration_seconds=1.5))
        terminal.error(StartError("cannot start greeter: it died"))
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each.pop("event") for each in told] == ["step", "step", "failed"]
    assert told[0] == {"name": "install", "outcome": "running"}
    assert (told[1]["outcome"], told[1]["duration_seconds"]) == ("done", 1.5)
    assert told[2]["problem"]["detail"] == "cannot start greeter: it died"


def test_a_package_that_was_not_sent_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with StepLines(Terminal(), uploads=True) as tell:
        tell(Step(name="validate", outcome="done"))
        tell(Step(name="unpack", outcome="done"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["upload", "skipped"],
        ["validate", "done"],
        ["unpack", "done"],
    ]


@pytest.mark.parametrize(("step", "is_told"), [("upload", False), ("install", True)])
def test_ctrl_c_says_what_goes_on_without_us(
    capsys: pytest.CaptureFixture[str], step: str, *, is_told: bool
) -> None:
    def push() -> None:
        with StepLines(Terminal(), uploads=True) as tell:
            tell(Step(name=step))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push()
    assert ("the server goes on with it" in capsys.readouterr().err) is is_told


def test_a_failed_deployment_reads_with_its_time_its_log_and_what_became_of_the_agent() -> None:
    error = StartError("cannot install greeter: x", evidence=["boom"], hint="mend it")
    steps = [{"name": "unpack"}, {"name": "install"}]
    error.document = {
        "deployment": {
            "agent": "greeter",
            "status": "rolled_back",
            "duration_seconds": 61.4,
            "steps": steps,
        }
    }
    assert list(failures.lines(error)) == [
        "cannot install greeter: x (1 min 1 s)",
        "the last lines of its install log:",
        "  | boom",
        "hint: mend it",
        "greeter is as it was before",
    ]


SLOW = {
    *("cryptography", "falcon", "hypothesis", "jinja2", "json5", "packaging"),
    *("pathspec", "pydantic", "rich", "supervisor", "tomli", "uv", "waitress"),
    *("deployer.api", "deployer.model", "deployer.server", "deployer.settings"),
    *("deployer.cli.packages", "deployer.cli.judgements", "deployer.client.directories"),
}
"""What takes longer to import than a server takes to answer, and what only others need."""


def modules_of(*arguments: str) -> set[str]:
    """Run a command in a process of its own, and tell what it imported."""
    code = (
        "import sys, deployer.cli\n"
        "try: deployer.cli.main()\n"
        "except SystemExit as ended: code = ended.code\n"
        "print(code or 0, *sys.modules, file=sys.stderr)"
    )
    argv = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].split())


def test_help_and_version_come_without_what_is_slow_to_import() -> None:
    assert not modules_of("--help") & (SLOW - {"deployer.cli.packages"} | {"requests"})
    assert not modules_of("--version") & (SLOW | {"requests", "deployer.cli.agents"})


@pytest.mark.parametrize(
    "words", [("list",), ("top",), ("status", "x"), ("stop", "x"), ("logs", "x"), ("why", "x")]
)
def test_a_command_that_asks_a_server_imports_only_what_it_needs(
    state: Path, words: tuple[str, ...]
) -> None:
    imported = modules_of(*words, "--state-dir", str(state))
    assert "3" in imported  # it did ask, and nobody answered
    assert "requests" in imported
    assert not imported & SLOW


def test_help_names_every_command_with_its_whole_sentence() -> None:
    told = run("--help").stdout
    assert told.index("The server:") < told.index("Packages:") < told.index("Agents:")
    assert "..." not in told.partition("The server:")[2]
    for name, _ in every_command():
        assert f"\n  {name.split()[0]} " in told


def test_the_version_is_the_one_that_was_installed() -> None:
    assert deployer.__version__ == version("atoll-deployment-server")


def test_top_shows_what_it_knew_while_the_server_restarts() -> None:
    one = Agent(name="b", status="running", usage=AgentUsage(cpus=0.125, memory_bytes=2**20))
    other = Agent(name="a", status="failed")
    away = ServerUnreachableError("cannot reach the server: connection refused")
    answers: Iterator[list[Agent] | DeployerError] = iter(([one, other], away, [one, other]))

    def ask() -> list[Agent]:
        answer = next(answers)
        if isinstance(answer, DeployerError):
            raise answer
        return answer

    view = View("http://127.0.0.1:8080", ask, Terminal(), "cpu")
    view.look()
    head, _, titles, *rows = view.lines()
    assert "1 failed, 1 running" in head
    assert [row.split()[:2] for row in rows] == [["b", "running"], ["a", "failed"]]
    assert dict(zip(titles.split(), rows[0].split(), strict=True))["CPU"] == "12.5%"
    view.look_again()
    assert view.lines()[0] == "cannot reach the server: connection refused; trying again"
    assert view.lines()[3:] == rows
    view.look_again()
    assert "1 failed, 1 running" in view.lines()[0]


# check -------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "agent.toml").write_text(MANIFEST)
    (folder / "main.py").write_text("print()\n")
    (folder / "requirements.txt").write_text("waitress>=3\n")
    return folder


def test_a_sound_directory_passes(package: Path) -> None:
    result = run("check", "--json", package)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["checked"] == str(package)
    assert (found["name"], found["starts"], found["requirements"]) == (
        "greeter",
        "script main.py",
        1,
    )


def test_a_sound_zip_passes(package: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in package.iterdir():
            archive.write(file, file.name)
    assert run("check", tmp_path / "a.zip").exit_code == 0


def test_what_stands_out_in_the_code_is_told_and_is_no_failure(package: Path) -> None:
    assert json.loads(run("check", "--json", package).stdout)["scan"]["status"] == "clean"
    (package / "odd.py").write_text("\nexec(bytes.fromhex(x))\n")

    result = run("check", package)

    assert result.exit_code == 0
    assert "scan  findings" in result.stdout
    assert "  odd.py:2: decoded-code (high): calls exec on what fromhex gives" in result.stdout


@pytest.mark.parametrize("name", ["agent.toml", "requirements.txt"])
def test_a_file_of_a_package_is_checked_by_itself(package: Path, name: str) -> None:
    assert run("check", package / name).exit_code == 0


def test_every_problem_of_a_package_is_told_at_once(package: Path) -> None:
    (package / "agent.toml").write_text('[agent]\nname = "../x"\nversion = 5\n')
    (package / "requirements.txt").write_text("-r other.txt\n")
    result = run("check", package)
    assert result.exit_code == 1
    for place in ("agent.name", "agent.version", "requirements.txt:1"):
        assert place in result.stderr


def test_a_package_for_atolls_own_runner_passes_only_with_one(package: Path) -> None:
    (package / "main.py").unlink()
    assert run("check", package).exit_code == 1
    assert run("check", "--runtime", package).exit_code == 0


def test_what_is_no_zip_is_told_in_words(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_text("hello")
    file.chmod(stat.S_IRUSR)
    result = run("check", file)
    assert result.exit_code == 1
    assert result.stderr.startswith("cannot ")


def test_what_cannot_be_packed_and_what_is_wrong_besides_are_told_at_once(package: Path) -> None:
    (package / "link").symlink_to("/etc/passwd")
    (package / "agent.toml").write_text('[agent]\nname = "../x"\n')
    (package / "requirements.txt").write_text("-r other.txt\n")
    result = run("check", package)
    assert result.exit_code == 1
    for place in ("link: a symbolic link", "agent.name", "requirements.txt:1"):
        assert place in result.stderr


def test_what_is_left_out_is_told(package: Path) -> None:
    (package / ".gitignore").write_text("*.log\n")
    (package / "a.log").touch()
    result = run("check", package)
    assert "left out      .gitignore, a.log" in result.stdout
    assert f"{package} can be deployed (" in result.stdout
    assert json.loads(run("check", "--json", package).stdout)["left_out"] == [".gitignore", "a.log"]


# pack and sign -----------------------------------------------------------------------------------


def test_a_directory_is_packed_beside_itself_by_name_and_version(package: Path) -> None:
    result = run("pack", package)
    file = package.parent / "greeter-1.0.zip"
    assert f"{file} holds 3 files in {file.stat().st_size} bytes (" in result.stdout
    assert run("check", file).exit_code == 0
    before = file.read_bytes()
    assert run("pack", package, "--output", file).exit_code == 0
    assert file.read_bytes() == before


def test_a_package_is_not_written_into_its_own_directory(package: Path) -> None:
    result = run("pack", package, "-o", package / "a.zip")
    assert result.exit_code == 1
    assert "--output" in result.stderr


def test_only_what_a_server_would_take_is_packed(package: Path) -> None:
    (package / "main.py").unlink()
    assert run("pack", package).exit_code == 1
    assert list(package.parent.glob("*.zip")) == []


def test_signing_a_directory_signs_the_zip_that_it_becomes(package: Path, tmp_path: Path) -> None:
    key = tmp_path / "ops.key"
    run("keygen", key)
    signed = run("sign", package, "--key", key)
    file = tmp_path / "greeter-1.0.zip"
    assert f"next: atoll-deployer push {file}" in signed.stdout
    assert run("verify", file, "--key", f"{key}.pub").exit_code == 0


# init --------------------------------------------------------------------------------------------


def test_init_makes_an_agent_that_a_server_would_take(tmp_path: Path) -> None:
    folder = tmp_path / "My Agent!"
    result = run("init", folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1] == f"next: atoll-deployer push {folder}"
    made = {each.name for each in folder.iterdir()}
    assert made == {"agent.toml", "main.py", "README.md", ".gitignore"}
    assert json.loads(run("check", "--json", folder).stdout)["name"] == "My-Agent"
    assert "my-agent" not in (folder / "README.md").read_text()


def test_init_writes_over_nothing(package: Path) -> None:
    result = run("init", package)
    assert result.exit_code == 1
    assert "agent.toml, main.py is there already" in result.stderr
    assert not (package / "README.md").exists()


def test_init_takes_only_a_name_that_agents_can_have(tmp_path: Path) -> None:
    result = run("init", tmp_path / "new", "--name", "../x")
    assert result.exit_code == 1
    assert "--name" in result.stderr
    assert not (tmp_path / "new").exists()
