"""Whether the server takes work: what must be so for that, looked at each time it is asked."""

from __future__ import annotations

import threading

from deployer.api.documents import Check
from deployer.errors import DeployerError
from deployer.keys import Caller
from deployer.parts import Parts


class ReadinessChecks:
    """Looks at everything that a deployment needs; details are for callers.

    Attributes:
        recovered: Set once what the last process left is set right, and work is taken.
        unrecovered: What of that could not be done.
    """

    def __init__(self, parts: Parts) -> None:
        """Look at the parts of one server, which has not recovered yet."""
        self._parts = parts
        self.recovered = threading.Event()
        self.unrecovered: list[str] = []

    def look(self, caller: Caller | None) -> list[Check]:
        """Look at all of it.

        Args:
            caller: Who asks, and is told of the agents that they see; None: nobody known, who is
                told no more than what is well.
        """
        return [
            self._recovery(caller),
            self._supervisord(caller),
            self._isolation(),
            self._agents(caller),
            self._secrets(caller),
        ]

    def _recovery(self, caller: Caller | None) -> Check:
        is_done = self.recovered.is_set()
        details = ["done" if is_done else "under way"]
        if caller is not None and caller.sees_all:
            details += self.unrecovered
        elif self.unrecovered:
            details.append("not all of it")
        return Check(name="recovery", ok=is_done, detail="; ".join(details))

    def _supervisord(self, caller: Caller | None) -> Check:
        try:
            self._parts.supervisord.ping()
        except DeployerError as error:
            detail = "does not answer" if caller is None else error.detail
            return Check(name="supervisord", ok=False, detail=detail)
        return Check(name="supervisord", ok=True, detail="answers")

    def _isolation(self) -> Check:
        # `serve` has asked, but the API may have been started again under another kernel setting.
        level, required = self._parts.isolation.level, self._parts.settings.isolation.require
        is_enough = required is None or level.is_at_least(required)
        detail = f"level {level}" if is_enough else f"level {level}, and {required} is required"
        return Check(name="isolation", ok=is_enough, detail=detail)

    def _agents(self, caller: Caller | None) -> Check:
        """Name those in quarantine: one bad agent does not keep the server from taking work."""
        quarantined = [
            agent
            for agent in self._parts.store.agents.all()
            if agent.quarantine and (caller is None or caller.sees(agent.name))
        ]
        detail = f"{len(quarantined) or 'none'} in quarantine"
        if quarantined and caller is not None:
            named = "; ".join(f"{agent.name}: {agent.quarantine}" for agent in quarantined)
            detail = f"in quarantine: {named}"
        return Check(name="agents", ok=True, detail=detail)

    def _secrets(self, caller: Caller | None) -> Check:
        unread = self._parts.secrets.find_problem()
        if unread and caller is None:
            unread = "some cannot be read"
        return Check(name="secrets", ok=True, detail=unread or "all can be read")
