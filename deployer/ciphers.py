"""What encrypts secrets at rest: one key in a file of its own, made when it is first needed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deployer import aeads, faults
from deployer.errors import SecretsKeyError, SecretUnreadableError
from deployer.trees import sync_directory

_FORMAT: Final = "atoll-secret-1"


class Cipher:
    """Encrypts and decrypts short texts.

    What belongs to a text, such as its name, is authenticated with it: a row that was copied onto
    another, or given to other agents, cannot be decrypted. Nonces are random; 96 bits do for more
    secrets than any machine will ever hold.
    """

    def __init__(self, key_file: Path, tmp: Path) -> None:
        """Use the key in key_file, which need not be there yet; it is written in tmp."""
        self._key_file = key_file
        self._tmp = tmp

    def find_problem(self) -> str:
        """Say why the key cannot be used; empty when it can."""
        try:
            self._read()
        except SecretsKeyError as error:
            return error.cause
        return ""

    def has_key(self) -> bool:
        """Tell whether the key file is there."""
        return self._key_file.exists()

    def make_key(self) -> None:
        """Make the key, unless there is one: written through to the disk, and never replaced."""
        if self.has_key():
            return
        descriptor, name = tempfile.mkstemp(prefix="secrets-key-", dir=self._tmp)
        fresh = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:  # mkstemp made it 0600
                file.write(os.urandom(aeads.KEY_BYTES).hex().encode() + b"\n")
                file.flush()
                os.fsync(descriptor)
            try:
                os.link(fresh, self._key_file)  # unlike a rename it fails where there is one
            except FileExistsError:
                return
        finally:
            fresh.unlink(missing_ok=True)
        sync_directory(self._key_file.parent)
        faults.reach("ciphers.make_key")

    def key_id(self) -> str:
        """Tell keys apart, without saying anything about them.

        Raises:
            SecretsKeyError: There is none that can be used.
        """
        return _id_of(self._read())

    def seal(self, text: str, context: Sequence[str]) -> bytes:
        """Encrypt a text.

        Args:
            text: What is secret.
            context: What belongs to it, and need not be secret.

        Raises:
            SecretsKeyError: There is no key that can be used.
        """
        return aeads.encrypt(self._read(), text.encode(), _associated(context))

    def open(self, sealed: bytes, context: Sequence[str], *, key_id: str) -> str:
        """Decrypt what `seal` made.

        Args:
            sealed: What it made.
            context: What it was given.
            key_id: Of the key then.

        Raises:
            SecretsKeyError: There is no key that can be used.
            SecretUnreadableError: Another key encrypted it, or it was changed since.
        """
        key = self._read()
        if _id_of(key) != key_id:
            why = f"it was encrypted with key {key_id}, and {self._key_file} holds {_id_of(key)}"
            raise SecretUnreadableError(f"cannot decrypt: {why}", cause=why)
        try:
            return aeads.decrypt(key, sealed, _associated(context)).decode()
        except ValueError as error:
            why = "its row in state.db is damaged or was changed"
            raise SecretUnreadableError(f"cannot decrypt: {why}", cause=why) from error

    def _read(self) -> bytes:
        try:
            if self._key_file.stat().st_mode & 0o077:
                raise self._unusable("others may read it: run `chmod 600` on it")
            text = self._key_file.read_text(encoding="ascii").strip()
            key = bytes.fromhex(text)
        except FileNotFoundError as error:
            raise self._unusable("it is missing") from error
        except OSError as error:
            raise self._unusable(f"it cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise self._unusable("it holds no key") from error
        if len(key) != aeads.KEY_BYTES:
            raise self._unusable("it holds no key")
        return key

    def _unusable(self, why: str) -> SecretsKeyError:
        return SecretsKeyError(
            f"cannot use the key of all secrets, {self._key_file}: {why}",
            cause=f"{self._key_file.name}: {why}",
            hint="put the file back as it was; if it is lost, remove what is left of it and every"
            " secret, then set them again",
        )


def _id_of(key: bytes) -> str:
    return hashlib.blake2b(key, digest_size=4, person=b"key id").hexdigest()


def _associated(context: Sequence[str]) -> bytes:
    return json.dumps([_FORMAT, *context]).encode()
