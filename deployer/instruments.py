"""What is measured while it happens: requests and steps of deployments.

What can be looked up when somebody asks for the metrics is not kept here.
"""

from __future__ import annotations

from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector

PREFIX: Final = "atoll_deployer"

_REQUEST_SECONDS: Final = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0)
_STEP_SECONDS: Final = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

# In the text format the time at which each series began would be one more series beside it.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # of theirs


class Instruments:
    """The figures of one server, in a registry of its own.

    Attributes:
        registry: Holds all of them, and those of this process.
        requests_in_flight: Requests that are being answered.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._request_seconds = Histogram(
            f"{PREFIX}_http_requests_seconds",
            "Seconds until a request's answer began, by the address that its route has",
            ("method", "route", "status"),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self._series: dict[tuple[str, str, int], Histogram] = {}
        self.requests_in_flight = Gauge(
            f"{PREFIX}_http_requests_in_flight",
            "Requests that are being answered, held and streaming ones included",
            registry=self.registry,
        )
        self._step_seconds = Histogram(
            f"{PREFIX}_deployment_step_seconds",
            "Seconds that steps of deployments took, since this process began",
            ("step",),
            buckets=_STEP_SECONDS,
            registry=self.registry,
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Take in a request that was answered.

        Args:
            method: One of few: each value is a series of its own.
            route: The same: a route's address, never a path.
            status: How it was answered.
            seconds: Until the answer began.
        """
        series = self._series.get((method, route, status))
        if series is None:
            series = self._request_seconds.labels(method, route, str(status))
            self._series[method, route, status] = series
        series.observe(seconds)

    def count_step(self, step: str, seconds: float) -> None:
        """Take in a step of a deployment that is over, well or not."""
        self._step_seconds.labels(step).observe(seconds)
