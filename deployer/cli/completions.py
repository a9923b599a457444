"""The command that teaches a shell to complete ours."""

from __future__ import annotations

from typing import Final

import click

_PROGRAM: Final = "atoll-deployer"
_VARIABLE: Final = "_ATOLL_DEPLOYER_COMPLETE"
_SHELLS: Final = ("bash", "zsh", "fish")


@click.command
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what a shell reads to complete commands, options, files and agents' names.

    \b
    bash  eval "$(atoll-deployer completion bash)"                     in ~/.bashrc
    zsh   eval "$(atoll-deployer completion zsh)"                      in ~/.zshrc, after compinit
    fish  atoll-deployer completion fish | source                      in ~/.config/fish/config.fish
    """  # noqa: D301 - click's own sign for lines that are not to be filled
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - for this only

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click has had all of them since 8.0
        raise click.UsageError(f"cannot complete in {shell}")
    root = click.get_current_context().find_root().command
    click.echo(
        kind(root, {}, _PROGRAM, _VARIABLE).source_template
        % {
            "complete_func": f"_{_PROGRAM.replace('-', '_')}_completion",
            "complete_var": _VARIABLE,
            "prog_name": _PROGRAM,
        }
    )
