"""From facts to words: why an agent died, or why it does not serve."""

from __future__ import annotations

from deployer.causes.answers import (
    explain_ignored_socket,
    explain_unaccepted,
    explain_unhealthy,
)
from deployer.causes.bindings import is_address_in_use
from deployer.causes.deaths import explain_death, explain_memory_limit, explain_pids_limit
from deployer.causes.nouns import Cause, Circumstances
from deployer.causes.spawns import explain_missing_logs, explain_spawn

__all__ = [
    "Cause",
    "Circumstances",
    "explain_death",
    "explain_ignored_socket",
    "explain_memory_limit",
    "explain_missing_logs",
    "explain_pids_limit",
    "explain_spawn",
    "explain_unaccepted",
    "explain_unhealthy",
    "is_address_in_use",
]
