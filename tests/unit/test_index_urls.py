"""Addresses compared with those that are allowed."""

from __future__ import annotations

import pytest

from deployer.index_urls import is_below

ALLOWED = ("https://a.example/team", "/srv/wheels/")


@pytest.mark.parametrize(
    "url",
    [
        *("https://a.example/team", "https://a.example/team/", "https://a.example:443/team/simple"),
        *("https://me:word@A.example/team/x", "/srv/wheels", "/srv/wheels/more"),
    ],
)
def test_these_lie_below(url: str) -> None:
    assert is_below(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        *("https://a.example/teammate", "http://a.example/team", "https://a.example:8443/team"),
        *("https://a.example.evil/team", "https://a.example@evil.example/team", "/srv/wheels2"),
        *("https://a.example/team/../other", "https://a.example/team/%2e%2e/x", "/srv", ""),
        *("https://a.example/team/..%2fother", "https://a.example/team/..\\x"),
    ],
)
def test_these_do_not(url: str) -> None:
    assert not is_below(url, ALLOWED)


def test_where_nothing_is_allowed_nothing_lies_below() -> None:
    assert not is_below("https://a.example/team", ())
