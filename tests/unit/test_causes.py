from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deployer.causes import (
    Cause,
    Circumstances,
    explain_death,
    explain_ignored_socket,
    explain_spawn,
    explain_unaccepted,
    explain_unhealthy,
    is_address_in_use,
)
from deployer.model import Answer


def death(exit_code: int | None, *stderr: str, **facts: object) -> Cause:
    signal = facts.pop("signal", None)
    stdout = facts.pop("stdout", ())
    if holder := facts.pop("holder", ""):
        facts["holder_of"] = lambda _: holder
    circumstances = Circumstances(**{"port": 8101, **facts})  # type: ignore[arg-type] # the facts of a test
    return explain_death(exit_code, signal, stderr, stdout, circumstances)  # type: ignore[arg-type] # the same


def raised(line: str, **facts: object) -> Cause:
    """Explain an exception that was raised in main.py:3."""
    return death(1, *traceback(line), **facts)


def traceback(line: str, file: str = "/srv/code/main.py") -> tuple[str, ...]:
    frame = f'  File "{file}", line 3, in <module>'
    return ("Traceback (most recent call last):", frame, "    x", line)


def unhealthy(detail: str, *listening: int, path: str | None = None) -> Cause:
    answer = Answer(healthy=False, detail=detail, seconds=0.1)
    return explain_unhealthy(answer, listening=listening, port=8101, path=path)


def run(source: str, tmp_path: Path) -> Cause:
    """Let a real Python die of a program, and explain it."""
    main = tmp_path / "main.py"
    main.write_text(source)
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    code, signal = (done.returncode, None) if done.returncode >= 0 else (None, -done.returncode)
    return explain_death(
        code,
        signal,
        done.stderr.splitlines(),
        done.stdout.splitlines(),
        Circumstances(port=8101),
    )


def test_an_exception_is_told_by_its_last_line(tmp_path: Path) -> None:
    cause = run("def sail():\n    raise ValueError('no wind')\nsail()\n", tmp_path)

    assert cause == Cause("ValueError: no wind", "raised in main.py:2", "exception")


def test_of_chained_exceptions_the_last_is_the_cause(tmp_path: Path) -> None:
    source = "try:\n    {}['x']\nexcept KeyError as e:\n    raise RuntimeError('no x') from e\n"

    assert run(source, tmp_path).text == "RuntimeError: no x"


def test_an_exception_with_many_lines_is_told_by_the_first(tmp_path: Path) -> None:
    assert run("raise ValueError('one\\ntwo')\n", tmp_path).text == "ValueError: one"


def test_an_exception_group_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    source = """
try:
    raise OSError("no chart")
except OSError as error:
    raise ExceptionGroup("tasks", [error])
"""
    assert run(source, tmp_path).text == "OSError: no chart"


def test_a_traceback_that_lost_its_head_is_still_read() -> None:
    cause = death(
        1, "    sail()", '  File "/srv/x/sea.py", line 7, in sail', "    go()", "BoatError: x"
    )

    assert cause == Cause("BoatError: x", "raised in sea.py:7", "exception")


def test_a_traceback_on_standard_output_is_read_too() -> None:
    trace = ("Traceback (most recent call last):", '  File "a.py", line 1', "KeyError: 'x'")

    assert death(1, stdout=trace).text == "KeyError: 'x'"


def test_a_missing_module_is_told_by_its_name(tmp_path: Path) -> None:
    cause = run("import seaweed.green\n", tmp_path)

    assert cause.text == "missing module 'seaweed'"
    assert "requirements.txt" in cause.hint
    assert cause.code == "missing-module"


def test_a_missing_submodule_names_its_package_in_the_hint() -> None:
    cause = death(
        1, "Traceback (most recent call last):", "ModuleNotFoundError: No module named 'yaml.core'"
    )

    assert cause.text == "missing module 'yaml.core'"
    assert "the package that has yaml to" in cause.hint


@pytest.mark.parametrize(
    ("source", "kind"),
    [("x = 1\ndef f(:\n", "SyntaxError"), ("x = 1\n  y = 2\n", "IndentationError")],
)
def test_a_syntax_error_is_told_with_file_and_line(source: str, kind: str, tmp_path: Path) -> None:
    cause = run(source, tmp_path)

    assert cause.text.startswith(f"{kind} in main.py:2: ")
    assert cause.code == "syntax-error"


def test_a_syntax_error_in_an_imported_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "reef.py").write_text("a = (\n")

    assert "in reef.py:1: " in run("import reef\n", tmp_path).text


def test_memory_errors_name_the_limit() -> None:
    lines = ("Traceback (most recent call last):", '  File "m.py", line 4, in f', "MemoryError")

    cause = death(1, *lines, memory_limit=256 * 2**20)

    assert cause.text == "out of memory in m.py:4: memory limit 256MiB"
    assert cause.code == "memory-limit"


def test_a_memory_error_without_a_limit_is_the_machines() -> None:
    lines = ("Traceback (most recent call last):", '  File "m.py", line 4, in f', "MemoryError")

    cause = death(1, *lines)

    assert (cause.text, cause.code) == ("out of memory in m.py:4", "out-of-memory")


def test_an_exit_without_a_traceback_is_told_with_its_last_words() -> None:
    assert death(3, "starting", "cannot read x.ini", "").text == (
        "exited with code 3: cannot read x.ini"
    )


def test_an_exit_without_a_word_says_so() -> None:
    assert death(1).text == "exited with code 1 and printed nothing"


def test_an_exit_with_0_is_an_end_before_serving() -> None:
    cause = death(0, "bye")

    assert cause.text == "ended by itself with exit code 0 before it served"
    assert cause.code == "exited"


def test_an_end_that_nobody_saw_is_told_with_its_last_words() -> None:
    assert death(None, "x").text == "ended: x"


def test_a_program_that_cannot_be_executed_and_says_nothing_is_told_by_its_code() -> None:
    assert death(127).text == "cannot be started: exit code 127"


@pytest.mark.parametrize("code", [126, 127])
def test_what_the_launcher_says_is_the_cause(code: int) -> None:
    cause = death(code, "launcher: no such file: /srv/venv/bin/python")

    assert cause.text == "cannot be started: no such file: /srv/venv/bin/python"
    assert cause.code == "cannot-execute"


def test_a_real_kill_is_told_by_the_signals_name(tmp_path: Path) -> None:
    cause = run("import os\nos.kill(os.getpid(), 9)\n", tmp_path)

    assert cause.text == "killed by SIGKILL"
    assert cause.code == "killed"


def test_sigkill_suggests_the_memory_limit() -> None:
    assert "its limit is 4GiB" in death(None, signal=9, memory_limit=4 * 2**30).hint


def test_sigkill_without_a_limit_suggests_memory_all_the_same() -> None:
    assert death(None, signal=9).hint == "it ran out of memory, or somebody ran kill -9"


def test_a_crash_suggests_native_code() -> None:
    cause = death(None, signal=11)

    assert cause.text == "killed by SIGSEGV"
    assert "compiled dependency" in cause.hint


def test_a_signal_without_a_name_is_told_by_number() -> None:
    assert death(None, signal=40).text == "killed by signal 40"


IN_USE = [
    "OSError: [Errno 98] Address already in use",
    "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8101): address already in use",  # noqa: E501 - uvicorn's own line
    "Error: listen EADDRINUSE: address already in use :::8101",
    'Error: Os { code: 98, kind: AddrInUse, message: "Address already in use" }',
    "bind: (os error 98)",
]


@pytest.mark.parametrize("line", IN_USE)
def test_an_address_in_use_is_told_with_its_holder(line: str) -> None:
    cause = death(1, line, holder="pid 812 nginx")

    assert cause.text == "port 8101 is held by pid 812 nginx"
    assert cause.code == "address-in-use"


@pytest.mark.parametrize("line", IN_USE)
def test_an_address_in_use_is_recognised(line: str) -> None:
    assert is_address_in_use(["starting", line])


@pytest.mark.parametrize("line", ["Errno 98 is not it", "port 8101", "[Errno 980] x"])
def test_other_lines_are_no_address_in_use(line: str) -> None:
    assert not is_address_in_use([line])


def test_a_real_bind_to_a_taken_port_is_recognised(tmp_path: Path) -> None:
    cause = run(
        "import socket\na = socket.create_server(('127.0.0.1', 0))\n"
        "socket.socket().bind(a.getsockname())\n",
        tmp_path,
    )

    assert cause.code == "address-in-use"


def test_an_address_in_use_without_a_holder_left_says_was() -> None:
    assert death(1, IN_USE[0]).text == "port 8101 was in use"


def test_another_port_in_use_is_the_agents_own_mistake() -> None:
    cause = death(1, IN_USE[2].replace("8101", "9000"), holder=None)

    assert cause.text == "wants port 9000, which is in use, instead of 8101: use the PORT variable"
    assert cause.code == "wrong-port"


def test_the_time_of_a_log_line_is_not_taken_for_a_port() -> None:
    line = "2025-11-22 10:20:30 INFO:2025-11-22: address already in use"

    assert death(1, line, holder="pid 1 x").code == "address-in-use"


def test_a_denied_bind_is_told() -> None:
    cause = death(
        1,
        "Traceback (most recent call last):",
        '  File "main.py", line 3, in <module>',
        "    s.bind(('', 80))",
        "PermissionError: [Errno 13] Permission denied",
    )

    assert cause.text == "may bind no port but 8101: permission denied"
    assert cause.code == "permission-denied"


def test_a_denied_bind_in_another_language_is_told() -> None:
    assert death(1, "listen tcp :80: bind: permission denied").code == "permission-denied"


def test_a_denied_file_is_an_exception_like_others() -> None:
    cause = death(
        1,
        "Traceback (most recent call last):",
        '  File "main.py", line 3, in <module>',
        "    open('/etc/shadow')",
        "PermissionError: [Errno 13] Permission denied: '/etc/shadow'",
    )

    assert cause.code == "exception"


def test_an_agent_that_never_bound_does_not_listen() -> None:
    cause = unhealthy("refused")

    assert cause.text == "does not listen on port 8101"
    assert cause.code == "not-listening"


def test_an_agent_on_another_port_is_told_to_use_the_variable() -> None:
    cause = unhealthy("refused", 9000)

    assert cause.text == "listens on 9000 instead of 8101: use the PORT variable"
    assert cause.code == "wrong-port"


def test_an_agent_on_another_address_is_told_to_use_the_variable() -> None:
    cause = unhealthy("refused", 8101, 9000)

    assert cause.code == "wrong-address"
    assert "HOST" in cause.hint


@pytest.mark.parametrize("detail", ["HTTP 500", "HTTP 404", "not HTTP", "closed without an answer"])
def test_a_bad_answer_is_told_as_it_was(detail: str) -> None:
    cause = unhealthy(detail, 8101)

    assert cause.text == f"fails its health check: {detail}"
    assert cause.hint
    assert cause.code == "bad-answer"


def test_silence_is_told_with_the_time_waited() -> None:
    cause = unhealthy("timed out after 5 s", 8101)

    assert cause.text == "does not answer its health check: timed out after 5 s"
    assert cause.code == "timed-out"


def test_404_hints_at_the_path() -> None:
    assert "[health] path" in unhealthy("HTTP 404").hint


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("HTTP 500", "HTTP 500"),
        ("a\r\nSet-Cookie: x", "a Set-Cookie: x"),
        ("caf\u00e9 \x1b[31m", "caf? ?[31m"),
        ("x" * 200, "x" * 117 + "..."),
        ("x" * 120, "x" * 120),
    ],
)
def test_the_short_form_fits_a_status_line(text: str, short: str) -> None:
    assert Cause(text).short == short


def test_an_agent_that_binds_what_it_was_given_is_told_how_to_take_it() -> None:
    cause = explain_ignored_socket(8101)
    assert cause.short.startswith("asked for an inherited socket but binds the port itself")
    assert "--fd 3" in cause.hint


def test_an_agent_that_accepts_elsewhere_is_told_where() -> None:
    assert explain_unaccepted(8101, {8101}).text.endswith("the socket it inherits on port 8101")
    assert explain_unaccepted(8101, {8101, 9000}).text.endswith("listens on 9000 instead")


def test_what_imports_a_missing_module_is_named() -> None:
    dependency = "/srv/venv/lib/python3.12/site-packages/sea/chart.py"
    line = "ModuleNotFoundError: No module named 'weed'"

    assert raised(line).hint.startswith("main.py:3 imports it: add the package")
    assert death(1, *traceback(line, dependency)).hint.startswith("sea/chart.py:3 imports it")


def test_a_module_that_python_lost_is_the_wrong_python_and_no_missing_package() -> None:
    cause = raised("ModuleNotFoundError: No module named 'distutils.core'", python="3.12.4")

    assert cause.text == (
        "missing module 'distutils.core': Python has none since 3.12, and this is 3.12.4"
    )
    assert cause.hint.endswith('[dependencies] python = "<3.12" in agent.toml')
    assert cause.code == "wrong-python"


def test_a_module_that_python_got_later_is_the_wrong_python_too() -> None:
    cause = raised("ModuleNotFoundError: No module named 'tomllib'", python="3.10.14")

    assert cause.code == "wrong-python"
    assert 'python = ">=3.11"' in cause.hint


@pytest.mark.parametrize("python", ["", "3.11.7", "nonsense"])
def test_a_module_that_this_python_still_has_is_only_missing(python: str) -> None:
    cause = raised("ModuleNotFoundError: No module named 'imp'", python=python)

    assert cause.code == "missing-module"


def test_a_file_that_hides_a_dependency_is_named(tmp_path: Path) -> None:
    (tmp_path / "reef.py").write_text("")

    cause = run("import reef.coral\n", tmp_path)

    assert cause.text == "missing module 'reef.coral': 'reef' is a single file here"
    assert "a reef.py of the package hides" in cause.hint


def test_a_module_that_was_to_be_started_and_is_missing_is_told() -> None:
    cause = death(1, "/srv/venv/bin/python: No module named atoll")

    assert (cause.text, cause.code) == ("missing module 'atoll'", "missing-module")
    assert "entrypoint" in cause.hint


def test_a_name_that_the_packages_own_file_lacks_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "reef.py").write_text("")

    cause = run("from reef import coral\n", tmp_path)

    assert cause.code == "import-error"
    assert cause.text.startswith("ImportError: cannot import name 'coral' from 'reef'")
    assert cause.hint == f"raised in main.py:1; {tmp_path / 'reef.py'} has no coral"


def test_a_name_that_a_dependency_lacks_asks_for_another_version() -> None:
    place = "/srv/venv/lib/python3.12/site-packages/sea/__init__.py"

    cause = raised(f"ImportError: cannot import name 'Chart' from 'sea' ({place})")

    assert "the version of sea that is installed has no Chart" in cause.hint


def test_a_circular_import_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "reef.py").write_text("from coral import a\n")
    (tmp_path / "coral.py").write_text("from reef import b\n")

    assert "reef is imported while it is being imported" in run("import reef\n", tmp_path).hint


def test_a_missing_shared_library_is_no_missing_package() -> None:
    cause = raised(
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    )

    assert (cause.text, cause.code) == ("missing shared library 'libGL.so.1'", "missing-library")
    assert "system package" in cause.hint


@pytest.mark.parametrize(
    "line",
    [
        "OSError: [Errno 28] No space left on device: 'x.db'",
        "sqlite3.OperationalError: database or disk is full",
    ],
)
def test_a_full_disk_is_told_with_what_is_left_of_it(line: str) -> None:
    cause = raised(line, room=lambda: "the disk of /srv has 0 bytes left")

    assert (cause.text, cause.code) == (f"disk full: {line}", "disk-full")
    assert cause.hint == "raised in main.py:3; the disk of /srv has 0 bytes left"


def refusal_of(path: Path, is_missing: bool) -> Cause | None:  # noqa: FBT001 - as it is called
    return Cause(f"refused {path} {is_missing}", "ask", "isolation") if path.is_absolute() else None


def test_a_file_that_is_refused_is_told_with_who_refuses_it() -> None:
    denied = raised("PermissionError: [Errno 13] Permission denied: '/x'", refusal_of=refusal_of)
    gone = raised("FileNotFoundError: [Errno 2] No such file: '/x'", refusal_of=refusal_of)

    assert denied == Cause("refused /x False", "ask; raised in main.py:3", "isolation")
    assert gone.text == "refused /x True"


def test_a_file_that_nobody_refuses_is_an_exception_like_others() -> None:
    line = "FileNotFoundError: [Errno 2] No such file or directory: 'x'"

    assert raised(line, refusal_of=refusal_of) == Cause(line, "raised in main.py:3", "exception")


def test_a_file_that_is_named_in_another_error_is_not_asked_for() -> None:
    cause = raised("IsADirectoryError: [Errno 21] Is a directory: '/x'", refusal_of=refusal_of)

    assert cause.code == "exception"


def test_the_holder_of_a_port_that_the_agent_chose_itself_is_named() -> None:
    cause = death(1, IN_USE[2].replace("8101", "9000"), holder="pid 812 nginx (nginx -g x)")

    assert cause.text.startswith(
        "wants port 9000, which is in use by pid 812 nginx (nginx -g x), instead of 8101"
    )


def test_a_health_check_is_told_with_the_path_that_was_asked_for() -> None:
    assert unhealthy("HTTP 404", path="/up").text == "fails its health check: HTTP 404 at /up"
    assert "nothing is served at /up" in unhealthy("HTTP 404", path="/up").hint
    slow = unhealthy("timed out after 5 s", path="/up")
    assert slow.text == "does not answer its health check: timed out after 5 s at /up"
    assert "timeout_seconds" in slow.hint


def test_a_log_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    cause = explain_spawn("unknown error making dispatchers for 'a--1': ENOENT", tmp_path / "logs")

    assert cause is not None
    assert (cause.text, cause.code) == (
        f"the log directory {tmp_path / 'logs'} is gone",
        "log-directory",
    )
    assert f"mkdir -m 700 {tmp_path / 'logs'}" in cause.hint


@pytest.mark.parametrize(("name", "code"), [("EACCES", "log-directory"), ("ENOSPC", "disk-full")])
def test_a_log_directory_that_is_there_is_not_called_gone(
    name: str, code: str, tmp_path: Path
) -> None:
    cause = explain_spawn(f"unknown error making dispatchers for 'a--1': {name}", tmp_path)

    assert cause is not None
    assert cause.code == code
    assert str(tmp_path) in cause.text


def test_what_supervisord_says_of_a_process_that_ended_is_no_failed_spawn(tmp_path: Path) -> None:
    assert explain_spawn("exit status 3 after 0.1 s", tmp_path) is None
