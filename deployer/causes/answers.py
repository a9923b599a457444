"""Why an agent whose process lives does not count as healthy."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from deployer.causes.nouns import Cause
from deployer.model import Answer

_ACCEPT: Final = (
    "accept from descriptor 3 when LISTEN_FDS is set (uvicorn --fd 3), or take"
    ' socket = "inherit" out of agent.toml'
)


def explain_unhealthy(
    answer: Answer, *, listening: Collection[int], port: int, path: str | None = None
) -> Cause:
    """Say why an agent whose process lives does not count as healthy.

    Args:
        answer: What came of the last health check.
        listening: The TCP ports that its processes listen on, as far as we may see.
        port: The TCP port that it was told to bind.
        path: What was asked for; None: only whether the port accepts a connection.

    Returns:
        The cause. Its code is one of ``not-listening``, ``wrong-port``, ``wrong-address``,
        ``timed-out`` and ``bad-answer``.
    """
    if answer.detail == "refused":
        return _explain_refused(listening, port)
    at = f" at {path}" if path else ""
    if answer.detail.startswith("timed out"):
        return Cause(
            f"does not answer its health check: {answer.detail}{at}",
            "it hangs, or needs longer: answer sooner, or raise [health] timeout_seconds in"
            " agent.toml",
            "timed-out",
        )
    if answer.detail == "HTTP 404":
        hint = (
            f"nothing is served at {path or 'that path'}: set [health] path in agent.toml to one"
            " that is"
        )
    elif answer.detail == "not HTTP":
        hint = "leave [health] path out of agent.toml to only have its port checked"
    elif answer.detail.startswith("HTTP 5"):
        hint = f"its own code failed{at}: its log says how (atoll-deployer logs)"
    else:
        hint = "read its log: atoll-deployer logs"
    return Cause(f"fails its health check: {answer.detail}{at}", hint, "bad-answer")


def explain_ignored_socket(port: int) -> Cause:
    """Say why an agent could not bind a port whose listening socket it was given.

    Args:
        port: The TCP port.
    """
    return Cause(
        f"asked for an inherited socket but binds the port itself: {port} is in use by its socket",
        _ACCEPT,
        "ignores-socket",
    )


def explain_unaccepted(port: int, listening: Collection[int]) -> Cause:
    """Say why an agent does not serve that was given a listening socket and does not accept.

    Args:
        port: The TCP port of that socket.
        listening: The TCP ports that its processes listen on, this one included.
    """
    others = ", ".join(str(other) for other in sorted(set(listening) - {port}))
    instead = f" and listens on {others} instead" if others else ""
    return Cause(
        f"accepts no connection from the socket it inherits on port {port}{instead}",
        _ACCEPT,
        "ignores-socket",
    )


def _explain_refused(listening: Collection[int], port: int) -> Cause:
    if port in listening:
        return Cause(
            f"listens on port {port}, but not on the address it was given",
            "bind the address in the HOST variable",
            "wrong-address",
        )
    if listening:
        others = ", ".join(str(other) for other in sorted(listening))
        return Cause(
            f"listens on {others} instead of {port}: use the PORT variable",
            "bind the port in the PORT variable instead of one of its own",
            "wrong-port",
        )
    return Cause(
        f"does not listen on port {port}",
        "bind the port in the PORT variable; a slow start needs [health] start_seconds",
        "not-listening",
    )
