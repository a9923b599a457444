"""Which packages are trusted: signatures kept beside archives, and whose keys made them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from deployer import faults
from deployer.agent_patterns import is_meant
from deployer.errors import NoTrustedKeysError, SignatureInvalidError, SignatureMissingError
from deployer.settings.trust import TrustedKey, TrustSettings
from deployer.signatures import LARGEST_SIGNATURE, SUFFIX, Signature, digest_of, verify
from deployer.state_dir import StateDir

_REMEMBERED_DIGESTS: Final = 1024


@dataclass(frozen=True, slots=True)
class Voucher:
    """A signature that is kept with a package: it was good when it came.

    Attributes:
        key: The id of the key that made it.
        comment: What the signer said, in the trusted comment.
        is_trusted: Whether the settings still let this key vouch for the package's agent.
    """

    key: str
    comment: str
    is_trusted: bool


class Trust:
    """Judges packages by their signatures.

    What is kept was verified before, against the archive and a key that was trusted then. Before a
    release is made or gone back to it is verified again, against the keys that are trusted now.
    """

    def __init__(self, settings: TrustSettings, state: StateDir) -> None:
        """Trust what settings say; archives and signatures lie in the state directory."""
        self._settings = settings
        self._packages = state.packages
        self._tmp = state.tmp

    @property
    def is_required(self) -> bool:
        """Whether only signed packages are deployed."""
        return self._settings.require

    def verify(self, archive: Path, data: bytes) -> Signature | None:
        """Verify a signature that came with a package, before anything looks into that.

        Args:
            archive: The package.
            data: The signature, as it came.

        Returns:
            The signature; None on a server that trusts nobody and so can verify nothing.

        Raises:
            SignatureInvalidError: It cannot be read, does not fit, or is no trusted key's.
        """
        if not self._settings.keys:
            return None
        signature = Signature.parse(data)
        self._verify(signature, archive)
        return signature

    def require_fit(self, signature: Signature, agent: str, version: str) -> None:
        """Make sure that a verified signature is meant for a package's agent.

        Args:
            signature: What `verify` gave.
            agent: The name in the package's manifest.
            version: The version there.

        Raises:
            SignatureInvalidError: Its key does not vouch for this agent, or its comment names
                another agent or version than the package is.
        """
        if not any(is_meant(agent, each.agents) for each in self._keys_of(signature.key)):
            raise SignatureInvalidError(
                f"cannot trust the signature: key {signature.key} does not vouch for {agent}",
                cause=f"key {signature.key} does not vouch for {agent}",
                hint="add the agent to the key's `agents` in trust.keys, or sign with another key",
            )
        for name, found in (("agent", agent), ("version", version)):
            said = signature.fields.get(name, found)
            if said != found:
                raise SignatureInvalidError(
                    f"cannot trust the signature: it was made for {name} {said!r:.80}, and the"
                    f" package says {found!r:.80}",
                    cause=f"signed for another {name}",
                    hint="sign the package again",
                )

    def keep(self, sha256: str, data: bytes) -> None:
        """Keep a signature beside its package's archive, in the place of an earlier one."""
        descriptor, name = tempfile.mkstemp(prefix="signature-", dir=self._tmp)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).replace(self._kept(sha256))
        faults.reach("trust.keep")

    def require_keys(self) -> None:
        """Make sure that there is somebody to trust.

        Raises:
            NoTrustedKeysError: There is nobody.
        """
        if not self._settings.keys:
            raise NoTrustedKeysError(
                "cannot verify the signature: the settings name no trust.keys",
                cause="no trusted keys",
                hint="add the signer's public key to trust.keys, or deploy without a signature",
            )

    def require_vouched(self, agent: str, version: str, sha256: str) -> None:
        """Make sure that a package may be deployed, by what the settings say now.

        Args:
            agent: Whose package it is.
            version: As its manifest says.
            sha256: Names the package.

        Raises:
            SignatureMissingError: It has no signature, or its archive is gone.
            SignatureInvalidError: Its signature is no trusted key's any more, or does not fit.
        """
        if not self._settings.require:
            return
        signature = self._read(sha256)
        if signature is None:
            raise missing(f"package {sha256[:12]} of {agent}")
        try:
            self._verify(signature, self._packages / f"{sha256}.zip")
        except FileNotFoundError as error:
            raise SignatureMissingError(
                f"cannot deploy package {sha256[:12]} of {agent}: its ZIP is gone, so its"
                " signature cannot be verified",
                cause="nothing to verify the signature with",
                hint="upload the package with its signature again",
            ) from error
        self.require_fit(signature, agent, version)

    def voucher(self, agent: str, sha256: str) -> Voucher | None:
        """Give the signature kept with a package; None when there is none."""
        try:
            signature = self._read(sha256)
        except SignatureInvalidError:  # damaged on the disk: as good as none
            return None
        if signature is None:
            return None
        is_trusted = any(is_meant(agent, each.agents) for each in self._keys_of(signature.key))
        return Voucher(signature.key, signature.comment, is_trusted)

    def _verify(self, signature: Signature, archive: Path) -> None:
        keys = self._keys_of(signature.key)
        if not keys:
            raise SignatureInvalidError(
                f"cannot trust the signature: key {signature.key} made it, which is none of"
                " trust.keys",
                cause=f"key {signature.key} is not trusted",
                hint="have it signed by a trusted key, or add this one to trust.keys",
            )
        status = archive.stat()
        identity = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest = _digest(archive, identity)
        for key in keys[:-1]:  # two keys of one id are possible, if unlikely
            try:
                return verify(signature, key.public, digest)
            except SignatureInvalidError:
                continue
        return verify(signature, keys[-1].public, digest)

    def _keys_of(self, key_id: str) -> list[TrustedKey]:
        return [each for each in self._settings.keys if each.public.id == key_id]

    def _kept(self, sha256: str) -> Path:
        return self._packages / f"{sha256}.zip{SUFFIX}"

    def _read(self, sha256: str) -> Signature | None:
        try:
            with self._kept(sha256).open("rb") as file:
                return Signature.parse(file.read(LARGEST_SIGNATURE + 1))
        except FileNotFoundError:
            return None


def missing(what: str) -> SignatureMissingError:
    """Make the error for a package that must be signed and is not."""
    return SignatureMissingError(
        f"cannot deploy {what}: it is not signed, and trust.require is on",
        cause="the package is not signed",
        hint="sign it with `atoll-deployer sign PACKAGE.zip --key FILE` and push it again, or send"
        " its .minisig with the upload",
    )


@lru_cache(maxsize=_REMEMBERED_DIGESTS)
def _digest(archive: Path, _identity: tuple[int, ...]) -> bytes:
    """Read an archive; its identity is another for another content, for the cache's sake."""
    with archive.open("rb") as file:
        return digest_of(file)
