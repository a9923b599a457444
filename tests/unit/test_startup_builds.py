"""What `serve` refuses before it promises to build source."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.errors import ServeRefusedError
from deployer.isolation import Isolation, Mechanisms
from deployer.isolation_levels import Fact, IsolationLevel
from deployer.startup import require_confined_builds
from deployer.state_dir import StateDir


def test_source_is_not_built_where_nothing_confines_it(tmp_path: Path) -> None:
    facts = [Fact("landlock", holds=False, detail="this kernel has none")]
    isolation = Isolation(StateDir(tmp_path), Mechanisms(), facts=facts)

    with pytest.raises(ServeRefusedError, match="landlock: this kernel has none"):
        require_confined_builds(isolation)


@pytest.mark.parametrize("level", sorted(set(IsolationLevel) - {IsolationLevel.NONE}))
def test_any_level_of_isolation_will_do(tmp_path: Path, level: IsolationLevel) -> None:
    require_confined_builds(Isolation(StateDir(tmp_path), Mechanisms(), level=level))
