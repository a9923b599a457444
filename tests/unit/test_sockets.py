"""Questions to who was given a socket: each comes to an end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from deployer import health
from deployer.model import HealthCheck, Release, ReleaseStatus
from deployer.sockets import Sockets
from deployer.store import now

INHERITS = Release(
    agent="greeter",
    number=1,
    status=ReleaseStatus.PROVEN,
    md5="a" * 32,
    sha256="b" * 64,
    version="1.0",
    manifest='{"agent": {"name": "greeter"}, "deployment": {"socket": "inherit"}}',
    entry_point="script main.py",
    python="",
    created_at=now(),
)


def test_a_question_that_breaks_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisord = SimpleNamespace(holds_sockets=True)
    settings = SimpleNamespace(bind_address="127.0.0.1")
    parts = SimpleNamespace(settings=settings, store=None, supervisord=supervisord)

    def check(*_arguments: object) -> None:
        raise ArithmeticError("nobody foresaw this")

    monkeypatch.setattr(health, "check", check)
    with pytest.raises(ArithmeticError):
        Sockets(cast("Any", parts)).ask(INHERITS, 1, HealthCheck(), still_alive=lambda: True)
