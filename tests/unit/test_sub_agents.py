"""The table with which an ATOLL agent reaches another one: TOML, whatever the name is."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.client import Agent
from deployer.client.sub_agents import sub_agent_table
from deployer.errors import NotInstalledError
from deployer.model import AGENT_NAME


@given(st.from_regex(AGENT_NAME, fullmatch=True))
@example("a.b")
@example("1")
@example("1.5")
@example("a..-_")
def test_it_is_a_table_of_that_name(name: str) -> None:
    agent = Agent(name=name, status="running", url="http://[::1]:8100")
    assert tomllib.loads(sub_agent_table(agent)) == {
        "sub_agents": {name: {"url": "http://[::1]:8100", "health_check_interval": 30}}
    }


def test_plain_names_need_no_quotes() -> None:
    agent = Agent(name="greeter-2", status="stopped", url="http://deployer.example:8100")
    assert sub_agent_table(agent).splitlines()[0] == "[sub_agents.greeter-2]"


def test_an_agent_without_a_port_cannot_be_reached() -> None:
    with pytest.raises(NotInstalledError, match="it has no port yet"):
        sub_agent_table(Agent(name="greeter", status="installed"))
