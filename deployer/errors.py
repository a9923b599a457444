"""What can go wrong, with a stable code for machines and a sentence for people.

Every sentence reads *cannot X: why*, and says what to do next where that is known. The kind of an
error decides its HTTP status, in one table in `deployer.api.problems`; its code travels in the
problem document (RFC 9457) and lets a client raise the same class again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar


class Kind(StrEnum):
    """What an error means to the one who asked, whatever went wrong inside."""

    MALFORMED = "malformed"  # the request itself cannot be read
    INVALID = "invalid"  # it can be read, and what it holds breaks a rule
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"
    CONFLICT = "conflict"
    TOO_LARGE = "too-large"
    UNSUPPORTED = "unsupported"
    BUSY = "busy"  # too much at once; try again
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"  # something we lean on is not there now
    NO_SPACE = "no-space"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Problem:
    """One of several things wrong with an input.

    Attributes:
        where: The place, such as ``agent.toml: resources.cpu_limit`` or ``requirements.txt:3``.
        message: What is wrong there and what would be right, with the real value in it.
    """

    where: str
    message: str

    def __str__(self) -> str:
        """Give the one-line form that people read."""
        return f"{self.where}: {self.message}" if self.where else self.message


class DeployerError(Exception):
    """The root of every error that this service raises on purpose.

    Attributes:
        code: A stable word for machines, the same in every release.
        kind: What it means to the one who asked; decides the HTTP status.
        detail: One sentence: cannot X: why.
        cause: The reason alone, a few words, fit for a status line; may be empty.
        hint: What to do next; may be empty.
        problems: Every single thing that is wrong, when there can be several.
        evidence: The last lines of the log that shows it; at most 50.
        document: The problem document that a client rebuilt it from, with its request id and the
            deployment that failed; empty for an error raised here.
    """

    code: ClassVar[str] = "internal-error"
    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(
        self,
        detail: str,
        *,
        cause: str = "",
        hint: str = "",
        problems: Sequence[Problem] = (),
        evidence: Sequence[str] = (),
    ) -> None:
        """Keep what is known, for every face to show in its own way."""
        super().__init__(detail)
        self.detail = detail
        self.cause = cause
        self.hint = hint
        self.problems = tuple(problems)
        self.evidence = tuple(evidence)
        self.document: Mapping[str, Any] = {}


# What came in ------------------------------------------------------------------------------------


class BadRequestError(DeployerError):
    """A request that cannot be read: a missing field, broken JSON, a bad number."""

    code = "bad-request"
    kind = Kind.MALFORMED


class RequestInvalidError(DeployerError):
    """A request that can be read, but a field is missing or breaks a rule; every one is listed."""

    code = "request-invalid"
    kind = Kind.INVALID


class UnsupportedMediaTypeError(DeployerError):
    """A body of a type that the route does not take."""

    code = "unsupported-media-type"
    kind = Kind.UNSUPPORTED


class AuthenticationRequiredError(DeployerError):
    """No token, or one that is not known."""

    code = "authentication-required"
    kind = Kind.UNAUTHENTICATED


class ForbiddenError(DeployerError):
    """Known, but not allowed to do this, or from there."""

    code = "forbidden"
    kind = Kind.FORBIDDEN


class ScopeMissingError(ForbiddenError):
    """The key may look, perhaps, but not do this."""

    code = "scope-missing"


class AgentForbiddenError(ForbiddenError):
    """The key holds for some agents, and not for this one."""

    code = "agent-forbidden"


class AgentCallerError(ForbiddenError):
    """An agent calls without a key: from it, neither the lack of one nor a session counts."""

    code = "agent-caller"


class RouteUnknownError(DeployerError):
    """No such address."""

    code = "route-unknown"
    kind = Kind.UNKNOWN


class TooBusyError(DeployerError):
    """More held or streaming requests than the server takes at once."""

    code = "too-busy"
    kind = Kind.BUSY


class TooManyAttemptsError(DeployerError):
    """Wrong keys came from this address one after another.

    Attributes:
        retry_after_seconds: When the next one is looked at.
    """

    code = "too-many-attempts"
    kind = Kind.BUSY
    retry_after_seconds: int = 1


class WaitTimeoutError(DeployerError):
    """What was waited for did not happen in time; it may still."""

    code = "wait-timeout"
    kind = Kind.TIMEOUT


class IdempotencyKeyReusedError(DeployerError):
    """The Idempotency-Key came before, with another request."""

    code = "idempotency-key-reused"
    kind = Kind.INVALID


class IdempotencyKeyInUseError(DeployerError):
    """The first request with this Idempotency-Key is still being answered.

    Attributes:
        retry_after_seconds: When to ask again.
    """

    code = "idempotency-key-in-use"
    kind = Kind.CONFLICT
    retry_after_seconds: int = 1


class KeyUnknownError(DeployerError):
    """No API key of this id."""

    code = "key-unknown"
    kind = Kind.UNKNOWN


# Packages and what they hold ---------------------------------------------------------------------


class PackageInvalidError(DeployerError):
    """The ZIP breaks a rule, or its manifest or requirements do; every problem is listed."""

    code = "package-invalid"
    kind = Kind.INVALID


class ManifestInvalidError(PackageInvalidError):
    """The ZIP is sound, but its manifest is missing or breaks a rule."""

    code = "manifest-invalid"


class RequirementsInvalidError(PackageInvalidError):
    """The ZIP is sound, but its dependencies are not plain requirements."""

    code = "requirements-invalid"


class EntryPointMissingError(PackageInvalidError):
    """Nothing in the package can be started."""

    code = "no-entry-point"


class PackageTooLargeError(DeployerError):
    """The upload is larger than the server takes."""

    code = "package-too-large"
    kind = Kind.TOO_LARGE


class PackageUnknownError(DeployerError):
    """No package with this checksum was uploaded yet."""

    code = "package-unknown"
    kind = Kind.UNKNOWN


class ChecksumConflictError(DeployerError):
    """Two packages share an MD5 but are not the same bytes."""

    code = "checksum-conflict"
    kind = Kind.CONFLICT


# Who vouches for a package ------------------------------------------------------------------------


class SignatureMissingError(DeployerError):
    """The package is not signed, and the settings require that it is."""

    code = "signature-missing"
    kind = Kind.FORBIDDEN


class SignatureInvalidError(DeployerError):
    """The signature cannot be read, does not fit the package, or is no trusted key's."""

    code = "signature-invalid"
    kind = Kind.FORBIDDEN


class NoTrustedKeysError(DeployerError):
    """A signature was sent to a server whose settings name no key to verify it with."""

    code = "no-trusted-keys"
    kind = Kind.CONFLICT


class SigningKeyError(DeployerError):
    """A secret key cannot be read, or its password is wrong."""

    code = "signing-key-invalid"
    kind = Kind.INVALID


# Secrets -----------------------------------------------------------------------------------------


class SecretUnknownError(DeployerError):
    """No secret of this name."""

    code = "secret-unknown"
    kind = Kind.UNKNOWN


class SecretUnavailableError(DeployerError):
    """An agent refers to secrets that are missing, unreadable or not for it; each is named."""

    code = "secret-unavailable"
    kind = Kind.INVALID


class SecretUnreadableError(DeployerError):
    """A secret's row cannot be decrypted."""

    code = "secret-unreadable"
    kind = Kind.INTERNAL


class SecretsKeyError(DeployerError):
    """The key that all secrets are encrypted with is lost, or not for its owner alone."""

    code = "secrets-key-unusable"
    kind = Kind.UNAVAILABLE


# Environments ------------------------------------------------------------------------------------


class InterpreterUnavailableError(DeployerError):
    """No Python on this machine fits what the manifest asks for."""

    code = "no-interpreter"
    kind = Kind.INVALID


class ResolutionError(DeployerError):
    """The requirements cannot be met together, or one of them does not exist."""

    code = "unresolvable"
    kind = Kind.INVALID


class InstallError(DeployerError):
    """The installer failed for a reason that is not the package's."""

    code = "install-failed"
    kind = Kind.UNAVAILABLE


class ScanBlockedError(DeployerError):
    """A scanner found what the settings do not let go live; every such finding is listed."""

    code = "scan-blocked"
    kind = Kind.INVALID


# Agents, releases, deployments -------------------------------------------------------------------


class AgentUnknownError(DeployerError):
    """No agent of this name."""

    code = "agent-unknown"
    kind = Kind.UNKNOWN


class ReleaseUnknownError(DeployerError):
    """The agent has no release of this number."""

    code = "release-unknown"
    kind = Kind.UNKNOWN


class ReleaseInUseError(DeployerError):
    """The release is current, or needed to go back."""

    code = "release-in-use"
    kind = Kind.CONFLICT


class ReleaseDamagedError(DeployerError):
    """Files of the release are missing or changed, so it is not even tried."""

    code = "release-damaged"
    kind = Kind.CONFLICT


class RowDamagedError(DeployerError):
    """What state.db says of it cannot be read whole."""

    code = "row-damaged"


class DeploymentUnknownError(DeployerError):
    """No deployment of this id."""

    code = "deployment-unknown"
    kind = Kind.UNKNOWN


class AgentBusyError(DeployerError):
    """Another deployment or act on this agent is under way."""

    code = "agent-busy"
    kind = Kind.CONFLICT


class NotInstalledError(DeployerError):
    """The agent has no release that could be started."""

    code = "not-installed"
    kind = Kind.CONFLICT


class StrategyUnsupportedError(DeployerError):
    """The strategy is unknown or not to be had here."""

    code = "strategy-unsupported"
    kind = Kind.INVALID


class StartError(DeployerError):
    """The agent did not come up: it died, never bound its port, or was not healthy in time."""

    code = "agent-not-healthy"
    kind = Kind.INVALID


class StopError(DeployerError):
    """The agent did not end, not even after SIGKILL."""

    code = "agent-not-stopped"
    kind = Kind.INTERNAL


class DeploymentAbandonedError(DeployerError):
    """The server ended while the deployment ran; what it had done was undone."""

    code = "deployment-abandoned"
    kind = Kind.UNAVAILABLE


class DeploymentCanceledError(DeployerError):
    """Somebody asked the deployment to end before it was activated."""

    code = "deployment-canceled"
    kind = Kind.CONFLICT


# The machine -------------------------------------------------------------------------------------


class IsolationTooLowError(DeployerError):
    """Agents cannot be kept apart here as well as the settings require."""

    code = "isolation-too-low"
    kind = Kind.UNAVAILABLE


class NoFreeUidError(DeployerError):
    """Every user id for agents is taken."""

    code = "no-free-uid"
    kind = Kind.UNAVAILABLE


class NoFreePortError(DeployerError):
    """Every port of the range is leased or taken by somebody else."""

    code = "no-free-port"
    kind = Kind.UNAVAILABLE


class TooManyAgentsError(DeployerError):
    """The server holds as many agents as its settings allow."""

    code = "too-many-agents"
    kind = Kind.UNAVAILABLE


class NoSpaceError(DeployerError):
    """The disk has too few bytes or inodes left."""

    code = "no-space"
    kind = Kind.NO_SPACE


class SupervisordUnreachableError(DeployerError):
    """supervisord did not answer in time."""

    code = "supervisord-unreachable"
    kind = Kind.UNAVAILABLE


class SupervisordRefusedError(DeployerError):
    """supervisord answered with a fault."""

    code = "supervisord-refused"
    kind = Kind.INTERNAL


class ProgramConfigError(DeployerError):
    """A program config does not say what was meant, so it must not enter conf.d."""

    code = "program-config-invalid"
    kind = Kind.INTERNAL


class SettingsInvalidError(DeployerError):
    """The server's own settings break a rule; every problem is listed and nothing is started."""

    code = "settings-invalid"
    kind = Kind.INVALID


class ServeRefusedError(DeployerError):
    """The server cannot start here: a taken port, a foreign lock, an unwritable directory."""

    code = "serve-refused"
    kind = Kind.CONFLICT


class ServerUnreachableError(DeployerError):
    """A client got no answer from the server."""

    code = "server-unreachable"
    kind = Kind.UNAVAILABLE


def _subclasses(cls: type[DeployerError]) -> Iterator[type[DeployerError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _subclasses(child)


def error_class(code: str) -> type[DeployerError]:
    """Find the class behind a stable code, so that a client raises what the server raised.

    Args:
        code: The ``code`` member of a problem document.

    Returns:
        The class, or DeployerError itself for a code that this version does not know.
    """
    return next((cls for cls in _subclasses(DeployerError) if cls.code == code), DeployerError)
