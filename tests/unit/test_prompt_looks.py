"""What the reading thread may answer itself: nothing that acts, however it is spelled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from deployer.api.prompt_looks import PromptLooks

CALLERS: Any = SimpleNamespace(asks_for_keys=True, remembers=lambda _token, _key: True)
AGENTS: Any = SimpleNamespace(has_new_standings=lambda: True)


@pytest.mark.parametrize(
    ("query", "is_prompt"),
    [
        ("", True),
        ("checksum=d41d8cd98f00b204e9800998ecf8427e", True),
        ("checksum=d41d&start=true", False),
        ("checksum=d41d&st%61rt=true", False),
        ("checksum=d41d&checksum=d41d", False),
    ],
)
def test_a_check_is_prompt_only_if_it_can_do_no_more_than_look(query: str, is_prompt: bool) -> None:  # noqa: FBT001 - parametrized
    request = SimpleNamespace(
        error=None,
        chunked=False,
        content_length=0,
        expect_continue=False,
        command="POST",
        path="/check",
        query=query,
        headers={"X_API_KEY": "k"},
    )
    assert PromptLooks(CALLERS, AGENTS).judge(cast("Any", request)) is is_prompt
