"""A deployment as it is followed: what was told is told once, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from deployer.api.followed_deployments import course
from deployer.model import Deployment, DeploymentStatus, Outcome, Step, Strategy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def seconds(number: float) -> datetime:
    return NOON + timedelta(seconds=number)


def deployment(*steps: Step) -> Deployment:
    return Deployment(
        id="1",
        agent="greeter",
        sha256="b" * 64,
        md5="a" * 32,
        strategy=Strategy.REPLACE,
        start=True,
        force=False,
        status=DeploymentStatus.RUNNING,
        created_at=NOON,
        steps=steps,
    )


def test_a_clock_that_is_set_back_neither_repeats_nor_hides_what_happened() -> None:
    install = Step("install", seconds(0))
    looks = [
        deployment(install),
        deployment(Step("install", seconds(0), seconds(-50), Outcome.DONE)),
        deployment(
            Step("install", seconds(0), seconds(-50), Outcome.DONE), Step("scan", seconds(-50))
        ),
    ]
    told: list[Step] = []
    for look in looks:
        told += course(look)[len(told) :]

    assert [(step.name, step.outcome) for step in told] == [
        ("install", Outcome.RUNNING),
        ("install", Outcome.DONE),
        ("scan", Outcome.RUNNING),
    ]
