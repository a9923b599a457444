"""Our nouns in supervisorctl, which loads this as ``[ctlplugin:agents]``.

supervisorctl imports it at each start and before it knows what is asked for, so whatever a command
needs is imported by that command. The commands are those of ``atoll-deployer``, with its options
and its words; what ends otherwise here is told by supervisorctl's own exit statuses.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from xmlrpc.client import Error as RpcError
from xmlrpc.client import Fault

from supervisor.supervisorctl import ControllerPluginBase, LSBInitExitStatuses

if TYPE_CHECKING:
    import click

    from deployer.errors import DeployerError

_HELP: Final = {
    "agents": ("agents", "List all agents: status, release, address, restarts"),
    "releases": ("releases NAME", "List an agent's releases, and which can be gone back to"),
    "rollback": ("rollback NAME [N]", "Put release N live again, or the one before the current"),
    "why": ("why NAME", "Tell why an agent is as it is: cause, last lines of its log, what to do"),
    "push": ("push FILE", "Deploy a package: a ZIP, or a directory that is packed into one"),
}
_ATOLL_NAMES: Final = {"agents": "list"}
"""What ``atoll-deployer`` calls a command, where that is not the same."""

_ELSEWHERE: Final = {"server", "token", "state_dir"}
"""Options that would lead to another server than the one whose supervisord this is."""

_GOING: Final = {"STARTING", "RUNNING"}


def make_commands(
    controller: Any, *, state_dir: str, service: str = "atoll-deployer"
) -> AgentCommands:
    """Make the commands; the factory that the configuration names.

    Args:
        controller: The ``supervisor.supervisorctl.Controller`` that loads us.
        state_dir: Of the server whose agents they are about.
        service: The program that is its API.
    """
    return AgentCommands(controller, Path(state_dir), service)


class AgentCommands(ControllerPluginBase):  # type: ignore[misc]  # supervisor has no types
    """What can be typed about agents, beside supervisorctl's own words about programs."""

    def __init__(self, controller: Any, state_dir: Path, service: str) -> None:
        """Speak for the server of state_dir."""
        super().__init__(controller)
        self._state_dir = state_dir
        self._service = service
        # supervisorctl asks each plug-in for help, and each that knows none says so aloud: the
        # first, its own, learns of ours here, and `do_help` says nothing when it is asked as well.
        for plugin in controller.options.plugins[:1]:
            for word in _HELP:
                setattr(plugin, f"help_{word}", partial(self._help, word))

    def do_help(self, topic: str) -> None:
        """List our commands below supervisorctl's own."""
        if not topic:
            self.ctl.output("")
            self.ctl.print_topics(self.doc_header, sorted(_HELP), 15, 80)

    def do_agents(self, line: str) -> None:
        """List all agents."""
        self._run("agents", line)

    def do_releases(self, line: str) -> None:
        """List an agent's releases."""
        self._run("releases", line)

    def do_rollback(self, line: str) -> None:
        """Put an earlier release live again, and wait until it serves."""
        self._run("rollback", line)

    def do_why(self, line: str) -> None:
        """Tell why an agent is as it is."""
        self._run("why", line)

    def do_push(self, line: str) -> None:
        """Deploy a package, and wait until it serves."""
        self._run("push", line)

    def _help(self, word: str) -> None:
        usage, sentence = _HELP[word]
        self.ctl.output(f"{usage:<24}{sentence}")
        self.ctl.output(f"{f'{word} --help':<24}Its options")

    def _run(self, word: str, line: str) -> None:
        """Run a command of ours; whatever goes wrong is told, and supervisorctl goes on."""
        import click  # noqa: PLC0415 - only for those who ask for us

        command = _command(word)
        try:
            with command.make_context(word, _words(word, line)) as context:
                self._call(command, dict(context.params))
        except click.exceptions.Exit:  # --help
            pass
        except (click.ClickException, ValueError) as error:  # ValueError: a quote is left open
            sentence = error.format_message() if isinstance(error, click.ClickException) else error
            self.ctl.output(f"Error: {word}: {sentence}")
            self._help(word)
            self.ctl.exitstatus = LSBInitExitStatuses.INVALID_ARGS
        except KeyboardInterrupt:
            self.ctl.output("")  # the prompt goes below the ^C; what was begun goes on
            self.ctl.exitstatus = LSBInitExitStatuses.GENERIC

    def _call(self, command: click.Command, options: dict[str, Any]) -> None:
        from deployer.cli.connections import find_server  # noqa: PLC0415 - as above
        from deployer.cli.terminals import Terminal  # noqa: PLC0415
        from deployer.client import Client  # noqa: PLC0415
        from deployer.errors import DeployerError  # noqa: PLC0415

        terminal = Terminal(as_json=options.pop("as_json"))
        # What stands below a command of `atoll-deployer`: it finds no server and tells no error.
        function = inspect.unwrap(cast("Callable[..., None]", command.callback))
        try:
            address = find_server(None, None, self._state_dir)
            with Client(address.url, address.token) as client:
                function(client, terminal, **options)
        except DeployerError as error:
            self.ctl.exitstatus = self._judge(error)
            terminal.error(error)

    def _judge(self, error: DeployerError) -> int:
        """Choose an exit status, and have the error say what can be typed next here."""
        from deployer.cli.failures import ExitCode, exit_code  # noqa: PLC0415 - as above

        match exit_code(error):
            case ExitCode.UNREACHABLE:
                error.hint = self._next_step()
                return int(LSBInitExitStatuses.NOT_RUNNING)
            case ExitCode.REFUSED:
                return int(LSBInitExitStatuses.INSUFFICIENT_PRIVILEGES)
            case _:
                return int(LSBInitExitStatuses.GENERIC)

    def _next_step(self) -> str:
        """Say what brings the API back, by what supervisord knows of it."""
        service = self._service
        try:
            state = self.ctl.get_supervisor().getProcessInfo(service)["statename"]
        except Fault:
            return f"supervisord has no program {service}: start the server as you did before"
        except (OSError, RpcError):
            return (
                f"supervisord is away too: start both with `atoll-deployer serve --state-dir"
                f" {self._state_dir}`"
            )
        if state in _GOING:
            return (
                f"{service} is {state} and may just have been started: try again, or type"
                f" `tail {service}` for its log"
            )
        return f"{service} is {state}: type `start {service}`; agents run on without it"


def _command(word: str) -> click.Command:
    """Take a command of ``atoll-deployer``, bound to one server."""
    import click  # noqa: PLC0415 - as above

    from deployer.cli import main  # noqa: PLC0415

    command = main.get_command(click.Context(main), _ATOLL_NAMES.get(word, word))
    if command is None:  # pragma: no cover - each of our words is a command there
        raise LookupError(word)
    params = [each for each in command.params if each.name not in _ELSEWHERE]
    return click.Command(word, params=params, callback=command.callback, help=command.help)


def _words(word: str, line: str) -> list[str]:
    """Split a line as a shell does.

    Raises:
        ValueError: A quote is left open.
    """
    # `supervisorctl push 'a b.zip'` joins its arguments again before it looks at them.
    if word == "push" and Path(line).exists():
        return [line]
    words = shlex.split(line)
    match words:
        case [name, number] if word == "rollback" and number.isdecimal():
            return [name, "--to", number]
    return words
