"""The metrics: what the server knows when somebody asks, as Prometheus reads it.

Nothing is collected between two scrapes but what `deployer.instruments` counts, so an agent that is
gone leaves no series behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from deployer.agent_patterns import EVERY_AGENT, is_meant
from deployer.agents import Agents
from deployer.metrics.agent_families import agent_families
from deployer.metrics.server_families import ServerFamilies, build_family
from deployer.parts import Parts

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """What there is to be scraped of one server."""

    def __init__(
        self, parts: Parts, agents: Agents, *, held: Callable[[], int], held_limit: int
    ) -> None:
        """Tell of one server.

        Args:
            parts: Its parts.
            agents: How its agents are.
            held: Tells how many requests are held or streaming.
            held_limit: How many may be.
        """
        self._agents = agents
        self._registry = parts.instruments.registry
        self._of_server = ServerFamilies(parts, held=held, held_limit=held_limit)
        self._texts = _Texts()

    def text(self, patterns: tuple[str, ...] = EVERY_AGENT) -> bytes:
        """Write the metrics in Prometheus' text format.

        Args:
            patterns: Of the agents that may be seen. Unless that is every one, nothing is told of
                the server as a whole but its version: its figures are about the others too.
        """
        sees_all = "*" in patterns
        views = self._agents.views()
        if not sees_all:
            views = tuple(view for view in views if is_meant(view.agent.name, patterns))
        families = [build_family(), *agent_families(views, self._agents.footprint)]
        if not sees_all:
            return b"".join(_text_of(each) for each in families)
        families += self._of_server.collect()
        texts = [self._texts.of(each) for each in families]
        return b"".join([*texts, generate_latest(self._registry)])


class _Texts:
    """Texts of families, kept as long as their samples are equal.

    Writing a sample costs the library ten times as much as making it, and of what 200 agents have
    to tell the larger part stays from one scrape to the next.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[Metric, bytes]] = {}

    def of(self, family: Metric) -> bytes:
        last = self._last.get(family.name)
        if last is not None and last[0].samples == family.samples:
            return last[1]
        text = _text_of(family)
        self._last[family.name] = family, text  # at once: threads must not mix theirs
        return text


class _Single:
    """One family, as what `generate_latest` asks."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)


def _text_of(family: Metric) -> bytes:
    return generate_latest(_Single(family))
