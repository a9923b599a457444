"""The command that looks at this machine: is it fit for a server, and does a server work on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployer.cli.failures import ExitCode
from deployer.cli.terminals import Terminal

if TYPE_CHECKING:
    from deployer.doctor import Finding, Trial

_WIDTH = 16


@click.command
@click.option(
    "--state-dir",
    envvar="ATOLL_DEPLOYER_STATE_DIR",
    type=click.Path(path_type=Path),
    help="Of the server that runs, or is to run, on this machine.",
)
@click.option(
    "--config",
    envvar="ATOLL_DEPLOYER_CONFIG",
    type=click.Path(path_type=Path),
    help="Settings as for serve; by default those of the last server there.",
)
@click.option("--selftest", "is_selftest", is_flag=True, help="Deploy an agent and break it.")
@click.option("--json", "as_json", is_flag=True, help="Print a document for machines.")
def doctor(
    state_dir: Path | None,
    config: Path | None,
    is_selftest: bool,  # noqa: FBT001 - as click hands it over
    as_json: bool,  # noqa: FBT001 - the same
) -> None:
    """Check whether this machine is fit for a server; with one running or none.

    With --selftest a server of its own is started, on free ports and in a temporary directory; an
    agent is deployed there and broken in five ways. It takes some 20 seconds, and at most a minute.

    The exit code is 1 when something fails.
    """
    from deployer.doctor import examine, selftest  # noqa: PLC0415 - it brings all the server

    terminal = Terminal(as_json=as_json)
    with terminal.telling():
        if is_selftest:
            is_fine = _tell_trials(terminal, selftest())
        else:
            is_fine = _tell_findings(terminal, examine(config, os.environ, state_dir))
    sys.exit(ExitCode.DONE if is_fine else ExitCode.FAILED)


def _tell_findings(terminal: Terminal, findings: Iterable[Finding]) -> bool:
    found = []
    for each in findings:
        found.append(each)
        if not terminal.as_json:
            terminal.line(f"{each.verdict:<4}  {each.check:<{_WIDTH}}  {each.detail}")
            if each.hint:
                terminal.line(f"{'':<4}  {'':<{_WIDTH}}  do: {each.hint}")
    failed = [each for each in found if each.verdict == "fail"]
    if terminal.as_json:
        fields = ("check", "verdict", "detail", "hint")
        documents = [{name: getattr(each, name) for name in fields} for each in found]
        terminal.document({"ok": not failed, "findings": documents, "count": len(found)})
    else:
        warned = sum(each.verdict == "warn" for each in found)
        terminal.line(f"{len(found)} checks: {len(failed)} failed, {warned} with a warning")
    return not failed


def _tell_trials(terminal: Terminal, trials: Iterable[Trial]) -> bool:
    found = []
    for each in trials:
        found.append(each)
        if not terminal.as_json:
            word = "pass" if each.passed else "FAIL"
            terminal.line(f"{word}  {each.name:<24}  {each.seconds:5.1f} s  {each.detail}")
    failed = [each for each in found if not each.passed]
    seconds = sum(each.seconds for each in found)
    if terminal.as_json:
        fields = ("name", "passed", "seconds", "detail")
        documents = [{name: getattr(each, name) for name in fields} for each in found]
        terminal.document({"ok": not failed, "trials": documents, "seconds": seconds})
    else:
        terminal.line(f"{len(found)} trials: {len(failed)} failed ({seconds:.1f} s)")
    return not failed
