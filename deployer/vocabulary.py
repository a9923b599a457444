"""Words that server and client share, and that cost nothing to import."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

AGENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Names of agents, for ``fullmatch``: they become paths, programs and parts of addresses."""


class DeploymentStatus(StrEnum):
    """How a deployment stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # nothing was running before, and nothing is now
    ROLLED_BACK = "rolled_back"  # failed, and the release before it serves again
    CANCELED = "canceled"
    ABANDONED = "abandoned"  # the server ended meanwhile; undone at the next start

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self not in {DeploymentStatus.QUEUED, DeploymentStatus.RUNNING}
