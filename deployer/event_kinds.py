"""What lines of the timeline are about: every kind there is."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class EventKind(StrEnum):
    """What a line of the timeline is about.

    Attributes:
        AGENT_DEGRADED: It answers, and says itself that something is wrong.
        AGENT_GIVEN_UP: Its process died too often, or could not be started, and no start follows
            by its restart policy; the server itself tries again, later and later.
        AGENT_HEALTHY: It answers well, for the first time or again.
        AGENT_KILLED: It was ended by SIGKILL, because somebody asked for that.
        AGENT_LIMIT_CLAMPED: Its manifest sets a limit higher than the machine is large.
        AGENT_LOG_RELEASED: It floods its log no longer, and no longer waits in its writes.
        AGENT_LOG_THROTTLED: It floods its log, and waits in its writes.
        AGENT_MOVING: Somebody else listens on its port: it is started on another.
        AGENT_OVER_LIMIT: It uses more of something than it may.
        AGENT_PUT_BACK: Its release never came up: the one before is current again, and stopped.
        AGENT_QUARANTINED: Its row, code, manifest or Python is damaged or gone; it is not started.
        AGENT_RECONCILED: It ran and should not, or should run and did not: that is set right.
        AGENT_REMOVED: It was removed, with everything of it.
        AGENT_RESTARTING: It is restarted, because somebody asked for that.
        AGENT_STARTED: It serves after a start, or somebody started it through supervisord.
        AGENT_START_FAILED: It was to be started, and did not come up.
        AGENT_STOPPED: It was stopped, because somebody asked for that, here or of supervisord.
        AGENT_STOPPED_OVER_LIMIT: It used more than it may, and stays stopped until it is started.
        AGENT_UNHEALTHY: It answers badly, or not at all, too often in a row; its restart policy
            says whether it is restarted.
        DEPLOYMENT_ABANDONED: The server ended while it ran; it was undone at the next start.
        DEPLOYMENT_CANCELED: It was canceled.
        DEPLOYMENT_FAILED: It failed, and nothing had served before.
        DEPLOYMENT_ROLLED_BACK: It failed, and what had served before serves again.
        DEPLOYMENT_STARTED: It is carried out from now on.
        DEPLOYMENT_SUCCEEDED: Its release is current.
        PACKAGE_RECEIVED: A package was uploaded that was not there.
        PACKAGE_SIGNED: A package was given a signature.
        PROCESS_DIED: An agent's process ended by itself.
        PROCESS_ESCAPED: Processes had left an agent's process group, and were ended with it.
        PROCESS_STARTED: A process of an agent was started; whether it serves is not known yet.
        RELEASE_DELETED: A release was deleted.
        RELEASE_MADE: A release was unpacked and installed.
        SECRET_CHANGED: A secret was given another value, or other agents.
        SECRET_REMOVED: A secret was removed.
        SECRET_SET: A secret came that was not there.
        SERVER_SALVAGED: The database was lost or damaged: it was restored, or read off the disk.
    """

    AGENT_DEGRADED = "agent.degraded"
    AGENT_GIVEN_UP = "agent.given_up"
    AGENT_HEALTHY = "agent.healthy"
    AGENT_KILLED = "agent.killed"
    AGENT_LIMIT_CLAMPED = "agent.limit_clamped"
    AGENT_LOG_RELEASED = "agent.log_released"
    AGENT_LOG_THROTTLED = "agent.log_throttled"
    AGENT_MOVING = "agent.moving"
    AGENT_OVER_LIMIT = "agent.over_limit"
    AGENT_PUT_BACK = "agent.put_back"
    AGENT_QUARANTINED = "agent.quarantined"
    AGENT_RECONCILED = "agent.reconciled"
    AGENT_REMOVED = "agent.removed"
    AGENT_RESTARTING = "agent.restarting"
    AGENT_STARTED = "agent.started"
    AGENT_START_FAILED = "agent.start_failed"
    AGENT_STOPPED = "agent.stopped"
    AGENT_STOPPED_OVER_LIMIT = "agent.stopped_over_limit"
    AGENT_UNHEALTHY = "agent.unhealthy"
    DEPLOYMENT_ABANDONED = "deployment.abandoned"
    DEPLOYMENT_CANCELED = "deployment.canceled"
    DEPLOYMENT_FAILED = "deployment.failed"
    DEPLOYMENT_ROLLED_BACK = "deployment.rolled_back"
    DEPLOYMENT_STARTED = "deployment.started"
    DEPLOYMENT_SUCCEEDED = "deployment.succeeded"
    PACKAGE_RECEIVED = "package.received"
    PACKAGE_SIGNED = "package.signed"
    PROCESS_DIED = "process.died"
    PROCESS_ESCAPED = "process.escaped"
    PROCESS_STARTED = "process.started"
    RELEASE_DELETED = "release.deleted"
    RELEASE_MADE = "release.made"
    SECRET_CHANGED = "secret.changed"  # noqa: S105 - the words of kinds, and no password
    SECRET_REMOVED = "secret.removed"  # noqa: S105 - the same
    SECRET_SET = "secret.set"  # noqa: S105 - the same
    SERVER_SALVAGED = "server.salvaged"


BAD: Final = frozenset(
    {
        EventKind.AGENT_DEGRADED,
        EventKind.AGENT_GIVEN_UP,
        EventKind.AGENT_LOG_THROTTLED,
        EventKind.AGENT_OVER_LIMIT,
        EventKind.AGENT_PUT_BACK,
        EventKind.AGENT_QUARANTINED,
        EventKind.AGENT_START_FAILED,
        EventKind.AGENT_STOPPED_OVER_LIMIT,
        EventKind.AGENT_UNHEALTHY,
        EventKind.DEPLOYMENT_ABANDONED,
        EventKind.DEPLOYMENT_FAILED,
        EventKind.DEPLOYMENT_ROLLED_BACK,
        EventKind.PROCESS_DIED,
        EventKind.SERVER_SALVAGED,
    }
)
"""At which somebody should look: warnings in the server's log."""


def is_bad(kind: str) -> bool:
    """Tell whether an event of this kind is one that somebody should look at."""
    return kind in BAD
