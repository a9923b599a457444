"""Commands that need no server: judge a package, and pack a directory into one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from deployer.cli.durations import seconds_text
from deployer.cli.terminals import Terminal
from deployer.errors import PackageInvalidError

if TYPE_CHECKING:
    from deployer.cli.judgements import Packed

_PACKAGE: Final = click.Path(exists=True, path_type=Path)
_DIRECTORY: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print a document for machines.")
RUNTIME = click.option(
    "--runtime", is_flag=True, help="Take it that the server's settings name an ATOLL runtime."
)


@click.command
@click.argument("package", type=_PACKAGE)
@RUNTIME
@_JSON
def check(package: Path, runtime: bool, as_json: bool) -> None:  # noqa: FBT001 - as click hands them over
    """Check a package, a directory, an agent.toml or a requirements.txt, without a server.

    The rules are the server's own, with the limits that it has by default, and everything that is
    wrong is told at once. A directory is checked as `push` packs it, so what is left out is told
    too, and what stands out in the code; neither is a reason to fail.
    """
    from deployer.cli.judgements import judge  # noqa: PLC0415 - it brings pydantic

    terminal, began_at = Terminal(as_json=as_json), time.monotonic()
    with terminal.telling():
        found = judge(package, has_runtime=runtime)
        if terminal.as_json:
            terminal.document(found)
            return
        scan, left_out = found.pop("scan", None), found.pop("left_out", ())
        found.pop("unpacked_bytes", None)
        terminal.pairs(
            {name.replace("size_bytes", "bytes"): value for name, value in found.items()}
            | {"left out": ", ".join(left_out)}
        )
        if scan:
            _tell_scan(terminal, scan)
        terminal.line(f"{package} can be deployed ({seconds_text(time.monotonic() - began_at)})")


@click.command
@click.argument("directory", type=_DIRECTORY)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The ZIP to write.  [NAME-VERSION.zip beside DIRECTORY]",
)
@RUNTIME
@_JSON
def pack(directory: Path, output: Path | None, runtime: bool, as_json: bool) -> None:  # noqa: FBT001 - the same
    """Pack a directory into a ZIP as `push` does, to sign it or to keep it.

    Left out are what .gitignore and .atollignore say, in every folder and by git's own rules, and
    what belongs into no package, such as .git, .venv and __pycache__; .atollignore comes second
    and can take back. The same contents make the same bytes. Only what a server would take is
    written.
    """
    from deployer.cli import judgements  # noqa: PLC0415 - as above

    terminal, began_at = Terminal(as_json=as_json), time.monotonic()
    with terminal.telling():
        packed = judgements.pack(directory, has_runtime=runtime)
        file = write_packed(packed, output)
        size_bytes, files = len(packed.archive), len(packed.contents.files)
        if as_json:
            left_out = list(packed.contents.left_out)
            terminal.document(
                {"package": str(file), "size_bytes": size_bytes, "files": files}
                | {"left_out": left_out}
            )
            return
        terminal.pairs({"left out": ", ".join(packed.contents.left_out)})
        took = seconds_text(time.monotonic() - began_at)
        terminal.line(f"{file} holds {files} files in {size_bytes} bytes ({took})")


def write_packed(packed: Packed, output: Path | None) -> Path:
    """Write a package that a directory became.

    Args:
        packed: The package.
        output: Where to; None: beside the directory, named by agent and version.

    Returns:
        Where it lies.

    Raises:
        PackageInvalidError: It cannot be written there.
    """
    directory = packed.contents.directory
    file = output or directory.parent / packed.file_name
    if directory in file.resolve().parents:
        raise PackageInvalidError(
            f"cannot write {file}: it lies in the directory that is packed, and the next package"
            " would hold it",
            cause="the output lies in the directory",
            hint="choose a place outside of it with --output",
        )
    partial = file.with_name(f".{file.name}.part")
    try:
        partial.write_bytes(packed.archive)
        partial.replace(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        why = (error.strerror or "").lower()
        raise PackageInvalidError(f"cannot write {file}: {why}", cause=why) from error
    return file


def _tell_scan(terminal: Terminal, scan: dict[str, Any]) -> None:
    terminal.pairs({"scan": " ".join(filter(None, (scan["status"], scan["reason"])))})
    for each in scan["findings"]:
        place = each["file"] if each["line"] is None else f"{each['file']}:{each['line']}"
        terminal.line(f"  {place}: {each['rule']} ({each['severity']}): {each['message']}")
