"""The command that makes an agent to start from."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from deployer.cli.terminals import Terminal
from deployer.errors import BadRequestError
from deployer.vocabulary import AGENT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME: Final = 63
_PLACEHOLDER: Final = "my-agent"
_FILES: Final = {
    "agent.toml": "agent.toml",
    "main.py": "main.py",
    "README.md": "README.md",
    "gitignore": ".gitignore",  # ours is called otherwise, or git and hatchling would obey it
}
"""What is written, by the names that the files have beside us."""


@click.command
@click.argument(
    "directory", default=".", type=click.Path(file_okay=False, path_type=Path), metavar="[DIR]"
)
@click.option("--name", help="The agent's name.  [the directory's]")
@click.option("--json", "as_json", is_flag=True, help="Print a document for machines.")
def init(directory: Path, name: str | None, as_json: bool) -> None:  # noqa: FBT001 - as click hands it over
    """Make an agent that works, in DIR or here, to start from.

    It writes agent.toml, main.py, README.md and .gitignore; main.py needs nothing but Python. What
    is there already is never written over.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.telling():
        agent = name or _name_from(directory.resolve().name)
        texts = _texts(agent)
        taken = [each for each in texts if (directory / each).exists()]
        if taken:
            raise BadRequestError(
                f"cannot make an agent in {directory}: {', '.join(taken)} is there already",
                cause="an agent is there already",
                hint="choose another directory, or check what is there with"
                f" `atoll-deployer check {directory}`",
            )
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for file, text in texts.items():
                (directory / file).write_text(text, encoding="utf-8")
        except OSError as error:
            raise BadRequestError(
                f"cannot write {directory}: {error.strerror}", cause=error.strerror or ""
            ) from error
        if as_json:
            terminal.document({"agent": agent, "directory": str(directory), "files": list(texts)})
            return
        terminal.line(f"{agent} is made in {directory}: {', '.join(texts)}")
        terminal.line(f"next: atoll-deployer push {directory}")


def _name_from(text: str) -> str:
    """Make an agent's name of a directory's."""
    return _ODD.sub("-", text).strip("-._")[:_LONGEST_NAME] or "agent"


def _texts(agent: str) -> Mapping[str, str]:
    """Give the files' texts by their names.

    Raises:
        BadRequestError: No agent can have this name.
    """
    if not AGENT_NAME.fullmatch(agent):
        raise BadRequestError(
            f"cannot make an agent called {agent!r}: a name begins with a letter or digit and has"
            " at most 63 letters, digits, '.', '_' or '-'",
            cause="no agent can have this name",
            hint="choose another one with --name",
        )
    folder = resources.files(__package__).joinpath("starter")
    texts = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in _FILES}
    return {_FILES[name]: text.replace(_PLACEHOLDER, agent) for name, text in texts.items()}
