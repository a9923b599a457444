"""An example of each problem: the error as it is raised, and so the document as it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from deployer import errors
from deployer.api.problems import problem_document
from deployer.errors import DeployerError, Problem

_REQUEST_ID: Final = "6f1d2c0b9a8e4f7d8c3b2a1908f7e6d5"
_ADMIN_HINT: Final = "ask whoever has an admin key for one with that scope"


def problem_example(cls: type[DeployerError]) -> Mapping[str, Any]:
    """Write the problem document of an error as it might be raised.

    Raises:
        KeyError: Nobody wrote an example of this class.
    """
    return problem_document(_RAISED[cls], _REQUEST_ID)


ERRORS: Final = (
    DeployerError(
        "cannot do GET /v1/server: the server failed",
        cause="the server failed",
        hint=f"the server's log has the traceback under request {_REQUEST_ID}",
    ),
    errors.BadRequestError(
        "cannot read wait='soon': it must be a number, not negative", cause="bad wait"
    ),
    errors.RequestInvalidError(
        "cannot read the body: strategy: input should be a valid string",
        cause="strategy: input should be a valid string",
        problems=(
            Problem("strategy", "input should be a valid string"),
            Problem("colour", "extra inputs are not permitted"),
        ),
    ),
    errors.UnsupportedMediaTypeError(
        "cannot read a body of type 'text/html': send application/json",
        cause="send application/json",
    ),
    errors.AuthenticationRequiredError(
        "cannot let you in: there is no key in the request",
        cause="there is no key in the request",
        hint="send `Authorization: Bearer KEY`; the first key lies in the state directory's file"
        " `token` on the server's machine, and makes others",
    ),
    errors.ForbiddenError(
        "cannot answer to the name 'deployer.example': without keys only this machine's own"
        " addresses are answered",
        cause="unknown host name",
        hint="call it by 127.0.0.1, or serve with --auth token",
    ),
    errors.AgentCallerError(
        "cannot do POST /v1/agents/greeter/stop: an agent asks for it, without a key",
        cause="agents need a key",
        hint="give the agent a key as a secret, if it is meant to do this",
    ),
    errors.RowDamagedError(
        "cannot go on with deployment 7 of greeter: its row in state.db is damaged",
        cause="its row in state.db is damaged",
        hint="deploy again",
    ),
    errors.ScopeMissingError(
        "cannot do POST /v1/deployments: it needs the scope deploy, and key:k4m2 has read",
        cause="needs the scope deploy",
        hint=_ADMIN_HINT,
    ),
    errors.AgentForbiddenError(
        "cannot do GET /v1/agents/billing with 'billing': key:k4m2 is for web-* only",
        cause="not an agent of this key's",
        hint="ask whoever has an admin key for one for this agent",
    ),
    errors.RouteUnknownError(
        "cannot find GET /v1/agents/a%20b: there is no such address",
        cause="no such address",
        hint="GET /openapi.json lists what there is",
    ),
    errors.TooBusyError(
        "cannot hold another request: as many as there may be are held already",
        cause="too many held requests",
        hint="GET /v1/events?wait=60&after=41 holds a request until there is news, or answers at once",
    ),
    errors.TooManyAttemptsError(
        "cannot let you in: wrong keys came from 192.0.2.7 one after another; try again in 4 s",
        cause="too many wrong keys",
        hint="the right key is let in at once",
    ),
    errors.WaitTimeoutError(
        "cannot say that greeter is running: after 30 s it is starting",
        cause="greeter is starting",
    ),
    errors.IdempotencyKeyReusedError(
        "cannot do POST /v1/agents/greeter/restart: its Idempotency-Key came before, with another"
        " request",
        cause="Idempotency-Key of another request",
        hint="make a new key for each thing to be done, such as a random UUID",
    ),
    errors.IdempotencyKeyInUseError(
        "cannot do POST /v1/deployments again: the first request with its Idempotency-Key is still"
        " being answered",
        cause="the first request is still being answered",
        hint="ask again in a second; the answer will be that of the first",
    ),
    errors.KeyUnknownError(
        "cannot find key 'k4m2': there is none of this id, or it is revoked",
        cause="No such key",
        hint="GET /v1/keys lists what there is",
    ),
    errors.PackageInvalidError(
        "cannot take the package: ../evil.py: it would be unpacked outside of its directory",
        cause="../evil.py: it would be unpacked outside of its directory",
        problems=(Problem("../evil.py", "it would be unpacked outside of its directory"),),
    ),
    errors.ManifestInvalidError(
        "cannot use the manifest: agent.toml: agent.name: must be there, and 1 more",
        cause="agent.toml: agent.name: must be there",
        problems=(
            Problem("agent.toml: agent.name", "must be there"),
            Problem("agent.toml: deployment.port", "must be 0, or from 1024 to 65535, not 80"),
        ),
    ),
    errors.RequirementsInvalidError(
        "cannot use the requirements: requirements.txt:3: '-e .' is an option",
        cause="requirements.txt:3: '-e .' is an option",
        hint="each line must be a plain requirement such as 'requests>=2,<3'",
        problems=(Problem("requirements.txt:3", "'-e .' is an option"),),
    ),
    errors.EntryPointMissingError(
        "cannot take the package: nothing in it can be started",
        cause="nothing in the package can be started",
        hint="add a main.py, or name a file or module as entrypoint in [agent]",
        problems=(Problem("the ZIP", "nothing in it can be started"),),
    ),
    errors.PackageTooLargeError(
        "cannot take 734003200 bytes: a package may have 524288000",
        cause="package larger than 524288000 bytes",
        hint="leave data and environments out of the package, or raise limits.upload_bytes",
    ),
    errors.PackageUnknownError(
        "cannot find package 5bd0388fb100a0a1383298ab45c2418d: it was not uploaded yet",
        cause="No such package: 5bd0388fb100a0a1383298ab45c2418d",
        hint="upload the ZIP to POST /v1/packages, then ask again",
    ),
    errors.ChecksumConflictError(
        "cannot take this package: its MD5 5bd0388fb100a0a1383298ab45c2418d is that of another"
        " package",
        cause="MD5 collision with another package",
        hint="change the package by a byte, or name packages by their SHA-256",
    ),
    errors.SignatureMissingError(
        "cannot take this package: it is not signed, and this server requires that it is",
        cause="not signed",
        hint="sign it with a key that trust.keys names, and push it again",
    ),
    errors.SignatureInvalidError(
        "cannot trust the signature: it was made for other bytes",
        cause="signature does not fit the package",
        hint="sign the very file that is sent",
    ),
    errors.NoTrustedKeysError(
        "cannot verify the signature: the settings name no trust.keys",
        cause="no trusted keys",
        hint="add the signer's public key to trust.keys, or deploy without a signature",
    ),
    errors.SecretUnknownError(
        "cannot remove secret 'api-token': there is none of this name",
        cause="No such secret: api-token",
        hint="GET /v1/secrets lists those that there are",
    ),
    errors.SecretUnavailableError(
        "cannot start greeter: TOKEN: there is no secret api-token",
        cause="there is no secret api-token",
        hint="set what is listed, then try again; nothing was stopped",
        problems=(Problem("TOKEN", "there is no secret api-token"),),
    ),
    errors.SecretUnreadableError(
        "cannot read secret api-token: it was encrypted with another key",
        cause="api-token was encrypted with another key",
        hint="set it again",
    ),
    errors.SecretsKeyError(
        "cannot use the key of all secrets, /var/lib/atoll-deployer/secrets.key: it is missing",
        cause="secrets.key: it is missing",
        hint="put the file back as it was; if it is lost, remove what is left of it and every"
        " secret, then set them again",
    ),
    errors.InterpreterUnavailableError(
        "cannot find a Python for '>=3.14': this machine has 3.11.7, 3.12.3",
        cause="no Python for '>=3.14'",
        hint="install one, or name one in python.search",
    ),
    errors.ResolutionError(
        "cannot resolve the dependencies: there is no version of reqests",
        cause="there is no version of reqests",
        hint="look at the name and the version of what is named",
        evidence=("  x No solution found when resolving dependencies:",),
    ),
    errors.InstallError(
        "cannot install the dependencies: the index does not answer",
        cause="the index does not answer",
        hint="try again; GET /v1/server tells which index is asked",
        evidence=("error: Request failed after 3 retries",),
    ),
    errors.ScanBlockedError(
        "cannot deploy greeter: this server blocks main.py:7: exec of decoded text",
        cause="main.py:7: exec of decoded text",
        hint="mend it in the package, or take the rule out of scan.block in the settings",
        problems=(Problem("main.py:7", "exec of decoded text"),),
    ),
    errors.AgentUnknownError(
        "No such agent: greter",
        cause="No such agent: greter",
        hint="GET /v1/agents lists those that there are",
    ),
    errors.ReleaseUnknownError(
        "cannot find release 9 of greeter: it was never made, or is deleted",
        cause="No such release: 9",
        hint="GET /v1/agents/greeter/releases lists what there is",
    ),
    errors.ReleaseInUseError(
        "cannot delete release 2 of greeter: it is the current one",
        cause="release 2 is the current one",
    ),
    errors.ReleaseDamagedError(
        "cannot roll greeter back to release 1: code/main.py was changed since it was installed",
        cause="code/main.py was changed since it was installed",
        hint="deploy its package again with force, or roll back to another release",
    ),
    errors.DeploymentUnknownError(
        "cannot find deployment 17: there is none of this id",
        cause="No such deployment: 17",
        hint="GET /v1/deployments lists what there is",
    ),
    errors.AgentBusyError(
        "cannot stop greeter: deployment 12 has been at work on greeter for 3 s",
        cause="deployment 12 is at work on greeter",
        hint="wait until it is over, or kill the agent",
    ),
    errors.NotInstalledError(
        "cannot start greeter: it has no release yet",
        cause="greeter has no release",
        hint="its first deployment is still under way, or failed",
    ),
    errors.StrategyUnsupportedError(
        "cannot deploy by 'canary': it is one of rehearse, replace, parallel",
        cause="no such strategy: canary",
    ),
    errors.StartError(
        "cannot start greeter: ModuleNotFoundError: No module named 'reqests'",
        cause="ModuleNotFoundError: No module named 'reqests'",
        hint="add it to requirements.txt",
        evidence=("ModuleNotFoundError: No module named 'reqests'",),
    ),
    errors.StopError(
        "cannot stop greeter: its process outlives SIGKILL, so it hangs in the kernel",
        cause="process outlives SIGKILL",
        hint="look at its state with `ps -o pid,stat,wchan`; a dead disk or network mount is the"
        " usual reason",
    ),
    errors.DeploymentAbandonedError(
        "cannot finish deploying greeter: the server ended during install",
        cause="the server ended during install",
        hint="deploy again",
    ),
    errors.DeploymentCanceledError(
        "cannot deploy greeter: the deployment was canceled before it began",
        cause="canceled",
        hint="deploy again",
    ),
    errors.IsolationTooLowError(
        "cannot start greeter: agents are kept apart at level landlock here, and isolation.require"
        " is full",
        cause="isolation level landlock is below full",
        hint="GET /v1/server says what is missing",
    ),
    errors.NoFreeUidError(
        "cannot start greeter: every uid of 600000-600099 is taken",
        cause="no free uid",
        hint="remove agents, with their data",
    ),
    errors.NoFreePortError(
        "cannot choose a port: of the 100 ports in 8100-8199, 98 are leased to agents and 2 are in"
        " use by other programs",
        cause="no free port in 8100-8199",
        hint="atoll-deployer ports lists the leases and the foreign holders",
    ),
    errors.TooManyAgentsError(
        "cannot add greeter: there are 100 agents already",
        cause="100 agents already",
        hint="remove an agent, or raise max_agents in the settings",
    ),
    errors.NoSpaceError(
        "cannot write 81,000,000 bytes below /var/lib/atoll-deployer: the disk has 1,200,000 left",
        cause="no space left on the disk",
        hint="remove agents or old releases, or free space elsewhere",
    ),
    errors.SupervisordUnreachableError(
        "cannot start greeter--2: supervisord does not answer",
        cause="supervisord does not answer",
        hint="look whether it runs, and at STATE/logs/supervisord.log",
    ),
    errors.SupervisordRefusedError(
        "cannot start greeter--2: supervisord says SPAWN_ERROR", cause="SPAWN_ERROR"
    ),
    errors.ProgramConfigError(
        "cannot use the program config greeter--2.conf: it must hold [program:greeter--2] and"
        " nothing else",
        cause="not exactly one program",
    ),
)

_RAISED: Final = {type(error): error for error in ERRORS}
