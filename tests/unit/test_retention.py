"""The timeline and the audit become as old and as long as the settings say."""

from __future__ import annotations

from contextlib import closing
from dataclasses import MISSING, fields
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from deployer import retention
from deployer.audits import Entry
from deployer.event_kinds import EventKind
from deployer.parts import Parts
from deployer.releases import ReleaseFiles
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.store import Store, now

Left = tuple[list[str], list[str]]


def left_after(days: int, root: Path, monkeypatch: pytest.MonkeyPatch, **settings: int) -> Left:
    """Write three lines into the timeline and the audit, trim days later, and say what is left."""
    state = StateDir(root)
    state.packages.mkdir()
    later = now() + timedelta(days=days)
    monkeypatch.setattr(retention, "now", lambda: later)
    with closing(Store(state.database)) as store:
        for word in ("one", "two", "three"):
            store.events.add(EventKind.AGENT_STARTED, "", word)
            store.audit.add(Entry(who="key:x", operation=word, source="", status=200))
        adapters: dict[str, Any] = {
            each.name: None for each in fields(Parts) if each.default_factory is MISSING
        }
        adapters |= {"settings": Settings(state_dir=root, **cast("Any", settings)), "store": store}
        adapters |= {"state": state, "files": ReleaseFiles(state)}
        adapters["shared"] = SimpleNamespace(all=list)
        retention.Retention(Parts(**adapters)).trim()
        events = [event.message for event in store.events.after(0, limit=100)]
        return events, [entry.operation for entry in store.audit.before(None, limit=100)][::-1]


ALL = ["one", "two", "three"]
TRIMMED = ["trim the audit"]


@pytest.mark.parametrize(
    ("days", "settings", "left"),
    [
        (4, {"events_days": 5, "audit_days": 5}, (ALL, ALL)),
        (6, {"events_days": 5, "audit_days": 7}, ([], ALL)),
        (6, {"events_days": 7, "audit_days": 5}, (ALL, TRIMMED)),
        (1, {"events_kept": 2}, (ALL[1:], ALL)),
        (366, {"audit_days": 0, "events_days": 1000}, (ALL, ALL)),
    ],
)
def test_what_is_written_down_stays_as_long_as_the_settings_say(
    days: int,
    settings: dict[str, int],
    left: Left,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert left_after(days, tmp_path, monkeypatch, **settings) == left
