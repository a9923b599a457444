"""Many clients at once: a shorter `make load`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.servers import RunningServer
from tests.traffic import Traffic, breaches

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

_WARM_UP_SECONDS = 10
_SECONDS = 30
_MOST_GROWTH = 0.2
"""A warm-up this short, beside other tests, ends before each thread has met its largest answer."""


def test_mixed_traffic_leaves_every_agent_and_nothing_else(
    make_server: Callable[..., RunningServer],
) -> None:
    traffic = Traffic(make_server())
    before = traffic.warm_up(_WARM_UP_SECONDS)
    tally = traffic.run(_SECONDS)
    after = traffic.settled()
    assert breaches(traffic, tally, before, after, _MOST_GROWTH) == []
    acts = {act for act, status in tally.answers if status < 300}
    assert acts == {"list", "check", "status", "logs", "start", "stop", "deploy"}, tally
