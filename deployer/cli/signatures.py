"""Commands about signatures: make a key pair, sign a package, verify one. None needs a server."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from deployer.cli.checks import write_packed
from deployer.cli.terminals import Terminal
from deployer.errors import BadRequestError, SignatureMissingError, SigningKeyError

if TYPE_CHECKING:
    from deployer.signatures import PublicKey

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print documents for machines.")


@click.command
@click.argument("file", type=_NEW_FILE)
@_JSON
def keygen(file: Path, as_json: bool) -> None:  # noqa: FBT001 - as click hands it over
    """Make a key pair to sign packages with: FILE, and FILE.pub for the server's settings.

    FILE has no password, so guard it well; `minisign -G` makes keys with one, and `sign` takes
    those too.
    """
    from deployer.signing_keys import SigningKey  # noqa: PLC0415 - it brings cryptography

    terminal = Terminal(as_json=as_json)
    with terminal.telling():
        key = SigningKey.generate()
        public = file.with_name(f"{file.name}.pub")
        comment = f"untrusted comment: minisign public key {key.public.id}"
        _write_new(file, key.to_text(), mode=0o600)
        _write_new(public, f"{comment}\n{key.public.line}\n", mode=0o644)
        if as_json:
            terminal.document(
                {"secret_key": str(file), "public_key": key.public.line, "id": key.public.id}
            )
            return
        terminal.line(f"{file} signs; keep it to yourself")
        terminal.line(f"{public} verifies; put its key into the server's settings:")
        terminal.line(f'  "trust": {{"keys": ["{key.public.line}"], "require": true}}')


@click.command
@click.argument("package", type=click.Path(exists=True, path_type=Path))
@click.option("--key", "key_file", type=_FILE, required=True, help="The secret key.")
@_JSON
def sign(package: Path, key_file: Path, as_json: bool) -> None:  # noqa: FBT001 - the same
    """Sign a package: writes PACKAGE.minisig beside it, which `push` sends along.

    A directory is packed first, as `pack` does it, and its ZIP signed. Only a package that a server
    would take is signed. The trusted comment names its agent and version as the manifest does.
    """
    from deployer.cli import judgements  # noqa: PLC0415 - it brings pydantic
    from deployer.signatures import SUFFIX, digest_of  # noqa: PLC0415 - as above
    from deployer.signing_keys import SigningKey  # noqa: PLC0415

    terminal = Terminal(as_json=as_json)
    with terminal.telling():
        key = SigningKey.parse(_secret_text(key_file), _ask_password)
        if package.is_dir():
            packed = judgements.pack(package, has_runtime=True)
            package, inspected = write_packed(packed, None), packed.inspected
        else:
            inspected = judgements.judge_zip(package, has_runtime=True)
        found = inspected.manifest.agent
        with package.open("rb") as file:
            digest = digest_of(file)
        fields = {
            "timestamp": str(int(time.time())),
            "file": "".join(each if each.isprintable() else "?" for each in package.name),
            "agent": found.name,
            "version": found.version,
        }
        comment = "\t".join([*(f"{name}:{value}" for name, value in fields.items()), "hashed"])
        signature = key.sign(digest, comment)
        target = package.with_name(package.name + SUFFIX)
        target.write_text(signature.to_text(), encoding="utf-8")
        if as_json:
            terminal.document(
                {"package": str(package), "signature": str(target)}
                | {"key": signature.key, "comment": comment}
            )
        else:
            terminal.line(f"{target}: {found.name} {found.version} signed by key {signature.key}")
            terminal.line(f"next: atoll-deployer push {package}")


@click.command
@click.argument("package", type=_FILE)
@click.option("--key", required=True, metavar="FILE|KEY", help="The public key, or its file.")
@_JSON
def verify(package: Path, key: str, as_json: bool) -> None:  # noqa: FBT001 - the same
    """Verify that a key signed a package, by the PACKAGE.minisig beside it."""
    from deployer import signatures  # noqa: PLC0415 - as above

    terminal = Terminal(as_json=as_json)
    with terminal.telling():
        public = _public_key(key)
        file = package.with_name(package.name + signatures.SUFFIX)
        try:
            signature = signatures.Signature.parse(file.read_bytes())
        except FileNotFoundError as error:
            raise SignatureMissingError(
                f"cannot verify {package}: there is no {file.name} beside it",
                cause="no signature beside the package",
                hint="get it from whoever signed the package",
            ) from error
        with package.open("rb") as opened:
            signatures.verify(signature, public, signatures.digest_of(opened))
        told = {"package": str(package), "key": signature.key, "comment": signature.comment}
        if as_json:
            terminal.document(told)
        else:
            terminal.pairs(told | {"comment": signature.comment.replace("\t", "  ")})


def _secret_text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise SigningKeyError(f"cannot read the secret key {file}: {why}", cause=why) from error


def _ask_password() -> str:
    return str(click.prompt("Password of the secret key", hide_input=True, err=True))


def _public_key(text: str) -> PublicKey:
    from deployer.signatures import PublicKey  # noqa: PLC0415 - as above

    file = Path(text)
    try:
        return PublicKey.parse(file.read_text(encoding="utf-8") if file.is_file() else text)
    except (OSError, ValueError) as error:
        raise BadRequestError(
            f"cannot use --key: {error}", cause="not a public key", hint="give FILE.pub or its key"
        ) from error


def _write_new(file: Path, text: str, *, mode: int) -> None:
    """Write a file that must not be there yet: a key that is overwritten is lost for good."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise SigningKeyError(
            f"cannot write {file}: {error.strerror}",
            cause=error.strerror or "",
            hint="choose another name, or remove that file first",
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(text)
