"""No text of an author reaches a program config: it is the same whatever a manifest says."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deployer.errors import ManifestInvalidError
from deployer.launch_policies import LaunchPolicy, policy_bytes
from deployer.launcher import read_policy
from deployer.launches import launch_policy, live_place, read_manifest
from deployer.limits.limiters import Limiter
from deployer.manifest import Manifest, parse_manifest
from deployer.model import Release, ReleaseStatus
from deployer.parts import Parts
from deployer.program_configs import parse_program
from deployer.programs import Programs
from deployer.releases import ReleaseFiles
from deployer.settings import LimitSettings, Settings
from deployer.state_dir import StateDir

NAME: Final = "reef"
PORT: Final = 8101
_WORDS: Final = (
    *("%(ENV_HOME)s", "%(here)s", "100%", " ;x", " #x", "a\nuser=root", "a\ruser=root", "a\0b"),
    *("\x85user=root", "\u2028user=root", "\u2029", "\v", "\f", "\x1c", "\ud800", "\u202e", "]"),
    *("[program:victim]", "'", '"', "\\", "$(id)", "`id`", "../../x", "--", "${HOME}", "", "ü"),
)
TEXTS: Final = st.lists(st.sampled_from(_WORDS) | st.text(max_size=5), max_size=4).map("".join)
NUMBERS: Final = st.one_of(
    *(st.floats(), st.integers(), st.booleans(), st.none(), TEXTS, st.floats(0.01, 3600))
)
VALUES: Final = TEXTS | NUMBERS | st.lists(TEXTS, max_size=2)


@pytest.fixture(scope="module")
def state() -> Iterator[StateDir]:
    with tempfile.TemporaryDirectory() as directory:
        state = StateDir(Path(directory).resolve())
        state.logs.mkdir()
        state.run.mkdir()
        yield state


def read(document: dict[str, Any]) -> Manifest | None:
    """Read a manifest as an upload is read; None when it is refused, in words."""
    try:
        return parse_manifest(json.dumps(document).encode(), "agent.json")
    except ManifestInvalidError as error:
        assert all(problem.message for problem in error.problems)  # noqa: PT017  # either end is fine
        return None


def policy_of(state: StateDir, manifest: Manifest) -> LaunchPolicy:
    agent = manifest.agent
    kind = "script" if (agent.entrypoint or "x.py").endswith(".py") else "module"
    release = Release(
        agent=agent.name,
        number=1,
        status=ReleaseStatus.INSTALLED,
        md5="0" * 32,
        sha256="0" * 64,
        version=agent.version,
        manifest=manifest.to_json(),
        entry_point=f"{kind} {agent.entrypoint or 'main.py'}",
        python="/usr/bin/python3",
        created_at=datetime.now(UTC),
    )
    place = live_place(state, Settings(), release, former_port=None)
    return launch_policy(parts_of(state), release, place, PORT)


@lru_cache(maxsize=1)
def parts_of(state: StateDir) -> Parts:
    """Make as much of a server as a launch asks for; it has no secrets to put in."""
    secrets = SimpleNamespace(variables_of=lambda release: read_manifest(release.manifest).env)
    limiter = Limiter(state, LimitSettings())
    parts = SimpleNamespace(
        state=state,
        settings=Settings(),
        limiter=limiter,
        files=ReleaseFiles(state),
        secrets=secrets,
    )
    return cast("Parts", parts)


def config_of(state: StateDir, manifest: Manifest) -> str:
    """Render the program config, which supervisord's own parser has read back."""
    text = Programs(state).render(policy_of(state, manifest), manifest.restart_policy())
    parse_program(f"{manifest.agent.name}--1", text, here=state.conf_d)
    return text


@pytest.fixture(scope="module")
def plain(state: StateDir) -> str:
    manifest = read({"agent": {"name": NAME}})
    assert manifest is not None
    return config_of(state, manifest)


@given(
    agent=st.dictionaries(
        st.sampled_from(["version", "description", "author", "entrypoint", "license", "x"]), VALUES
    ),
    env=st.dictionaries(st.sampled_from(["A", "LD_X", "a b"]) | TEXTS, TEXTS, max_size=3),
    more=st.dictionaries(TEXTS, VALUES | st.dictionaries(TEXTS, VALUES, max_size=2), max_size=2),
)
@example(agent={}, env={"A": "%(ENV_HOME)s ;\u2028\x85user=root"}, more={})
@example(agent={"entrypoint": "a-b.py"}, env={"A": "'"}, more={"program:x": {"command": "id"}})
@settings(deadline=None, derandomize=True, max_examples=300)
def test_no_text_of_an_author_changes_a_program_config(
    state: StateDir, plain: str, agent: dict[str, Any], env: dict[str, str], more: dict[str, Any]
) -> None:
    manifest = read({**more, "agent": {**agent, "name": NAME}, "env": env})
    if manifest is None:
        return
    assert config_of(state, manifest) == plain
    arrived = read_policy(policy_bytes(policy_of(state, manifest))).variables
    assert {name: arrived[name.encode()].decode() for name in env} == env


@given(name=TEXTS | st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z"))
@example(name="reef\n")
@example(name="reef--2")
@example(name="a]")
@settings(deadline=None, derandomize=True, max_examples=300)
def test_a_name_is_one_plain_word_in_a_program_config(
    state: StateDir, plain: str, name: str
) -> None:
    manifest = read({"agent": {"name": name}})
    if manifest is None:
        return
    assert name.isascii()
    assert config_of(state, manifest) == plain.replace(f"{NAME}--1", f"{name}--1")


@given(seconds=NUMBERS, restarts=NUMBERS)
@example(seconds=math.nan, restarts=math.inf)
@example(seconds=True, restarts=1)
@example(seconds="7", restarts=1)
@example(seconds=1, restarts=10**400)
@settings(deadline=None, derandomize=True, max_examples=300)
def test_numbers_reach_a_program_config_as_numbers_only(
    state: StateDir, plain: str, seconds: object, restarts: object
) -> None:
    table = {"stop_seconds": seconds, "max_restarts": restarts}
    manifest = read({"agent": {"name": NAME}, "deployment": table})
    if manifest is None:
        return
    assert not isinstance(seconds, bool | str)
    wanted = plain.replace("=10\n", f"={math.ceil(float(str(seconds)))}\n", 1)
    assert config_of(state, manifest) == wanted.replace(
        "startretries=3\n", f"startretries={restarts}\n"
    )
