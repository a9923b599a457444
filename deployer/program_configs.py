"""supervisord's configuration as text: spelled for its own parser, and read by no other.

Rules of that parser (supervisor 4.3.0, found by trying) that decide what can be written at all:

- ``%`` starts an expansion, so it is doubled; a log path is expanded twice, so it is doubled twice.
- ``%(here)s`` is replaced in the raw text even where its percent sign is doubled, and a space
  before ``;`` or ``#`` cuts a value even inside quotes. No spelling gets these through.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Callable, Sequence
from configparser import Error as ConfigSyntaxError
from pathlib import Path
from typing import Any, Final

from supervisor.options import ProcessConfig, ServerOptions, UnhosedConfigParser

from deployer.errors import ProgramConfigError

ENDLESS_RETRIES: Final = 1_000_000
"""What stands for "for ever" where supervisord wants a number."""

INHERIT: Final = "inherit"
"""What a launcher's command says before the host whose listening socket it is given."""


def command_value(arguments: Sequence[str]) -> str:
    """Spell a command so that supervisord splits it into these arguments again."""
    return value(shlex.join(arguments))


def inherited_address(command: str) -> tuple[str, int] | None:
    """Read out of a program's command which listening socket it is to be given.

    Returns:
        Numeric host and TCP port; None when it binds one itself, or is not a launcher's.
    """
    try:
        arguments = shlex.split(command)
    except ValueError:
        return None
    match arguments:
        case [*_, port, _policy, word, host] if word == INHERIT and port.isdecimal():
            return host, int(port)
    return None


def value(text: str) -> str:
    """Spell a text so that it survives one expansion."""
    return text.replace("%", "%%")


def log_value(path: Path) -> str:
    """Spell a log file's path: supervisord expands it twice."""
    return value(value(str(path)))


def parse_program(
    name: str,
    text: str,
    options: Any = None,
    *,
    config_class: Callable[..., ProcessConfig] = ProcessConfig,
    here: Path | None = None,
) -> ProcessConfig:
    """Parse a program config alone, as supervisord would among all the others.

    Args:
        name: The one program that the text must hold.
        text: A whole file of conf.d.
        options: A running supervisord's; by default throw-away ones without any variables.
        config_class: Called with options and the parameters that were read.
        here: The directory of the file, for ``%(here)s``.

    Returns:
        The one process of the one program.

    Raises:
        ProgramConfigError: It does not parse, or is not exactly one ``[program:NAME]``.
    """
    if options is None:
        options = ServerOptions()
        options.environ_expansions = {}  # a config must not depend on who parses it
        options.here = str(here)
    section = f"program:{name}"
    parser = UnhosedConfigParser()
    parser.expansions = options.environ_expansions
    try:
        text.encode()  # supervisord reads UTF-8, and what is none keeps it from starting
        # newline=None: a file is read so, and there a bare carriage return ends a line
        parser.read_file(io.StringIO(text, newline=None), source=f"{name}.conf")
        if parser.sections() != [section] or parser.defaults():
            found = [*parser.sections(), *(["DEFAULT"] if parser.defaults() else [])]
            raise ProgramConfigError(
                f"cannot use the program config {name}.conf: it must hold [{section}] and nothing"
                f" else, not {found}",
                cause="not exactly one program",
            )
        parser.expand_here(str(here or options.here))
        processes = options.processes_from_section(parser, section, name, config_class)
    except (ConfigSyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ProgramConfigError(
            f"cannot use the program config {name}.conf: {reason}", cause="does not parse"
        ) from error
    if [process.name for process in processes] != [name]:
        raise ProgramConfigError(
            f"cannot use the program config {name}.conf: it must be one process of the same name"
        )
    return processes[0]


def differences(config: ProcessConfig, other: ProcessConfig) -> dict[str, tuple[Any, Any]]:
    """Give every parameter that two configs do not share, with both values."""
    keys = (*ProcessConfig.req_param_names, *ProcessConfig.optional_param_names)
    pairs = {key: (getattr(config, key), getattr(other, key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
