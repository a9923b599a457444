"""What can go wrong with whole kinds of requests, for operations to name beside their own."""

from __future__ import annotations

from typing import Final

from deployer import errors
from deployer.errors import DeployerError

Problems = tuple[type[DeployerError], ...]

ANY_REQUEST: Final[Problems] = (
    errors.BadRequestError,
    errors.ForbiddenError,
    errors.PackageTooLargeError,
    DeployerError,
)
"""What any request may meet: a bad header, the gate, a body too large, a fault of the server's."""

KEYS: Final[Problems] = (
    errors.AuthenticationRequiredError,
    errors.TooManyAttemptsError,
    errors.ScopeMissingError,
    errors.AgentForbiddenError,
    errors.AgentCallerError,
)
"""What whoever shows no key, a wrong one, or one for less may meet."""

REPEATABLE: Final[Problems] = (
    errors.IdempotencyKeyReusedError,
    errors.IdempotencyKeyInUseError,
)
"""What a request with an Idempotency-Key may meet."""

AGENT: Final[Problems] = (errors.AgentUnknownError, errors.RouteUnknownError)
"""What naming an agent in the address may meet; no agent can have some names."""

JSON_BODY: Final[Problems] = (
    errors.BadRequestError,
    errors.UnsupportedMediaTypeError,
    errors.RequestInvalidError,
)

VOUCHING: Final[Problems] = (
    errors.SignatureMissingError,
    errors.SignatureInvalidError,
    errors.NoTrustedKeysError,
)

UPLOAD: Final[Problems] = (
    *JSON_BODY,
    *VOUCHING,
    errors.PackageTooLargeError,
    errors.PackageInvalidError,
    errors.ManifestInvalidError,
    errors.RequirementsInvalidError,
    errors.EntryPointMissingError,
    errors.ChecksumConflictError,
    errors.NoSpaceError,
)

ACT: Final[Problems] = (
    errors.AgentBusyError,
    errors.NotInstalledError,
    errors.StartError,
    errors.StopError,
    errors.SecretUnavailableError,
    errors.SecretUnreadableError,
    errors.SecretsKeyError,
    errors.ReleaseDamagedError,
    errors.EntryPointMissingError,
    errors.IsolationTooLowError,
    errors.NoFreeUidError,
    errors.NoFreePortError,
    errors.NoSpaceError,
    errors.ProgramConfigError,
    errors.SupervisordRefusedError,
    errors.SupervisordUnreachableError,
)
"""What starting or stopping an agent may meet."""

RESOLVING: Final[Problems] = (
    errors.StrategyUnsupportedError,
    errors.InterpreterUnavailableError,
    errors.ResolutionError,
    errors.InstallError,
)
"""What choosing an interpreter and dependencies may meet."""

DEPLOYMENT: Final[Problems] = (
    *ACT,
    *VOUCHING,
    *RESOLVING,
    errors.PackageUnknownError,
    errors.PackageInvalidError,
    errors.RequirementsInvalidError,
    errors.ScanBlockedError,
    errors.TooManyAgentsError,
    errors.WaitTimeoutError,
    errors.DeploymentCanceledError,
    errors.DeploymentAbandonedError,
    errors.RowDamagedError,
)
"""What putting a release live may meet."""
