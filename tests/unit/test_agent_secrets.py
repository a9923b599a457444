"""Secrets of agents: who gets them, what is hidden of them, and what damage does."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from deployer.agent_secrets import AgentSecrets
from deployer.errors import SecretsKeyError, SecretUnavailableError, SecretUnknownError
from deployer.launch_policies import LaunchPolicy, policy_bytes
from deployer.model import Release, ReleaseStatus
from deployer.state_dir import StateDir
from deployer.store import Store, now


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


@pytest.fixture
def secrets(state: StateDir) -> Iterator[AgentSecrets]:
    state.tmp.mkdir()
    with closing(Store(state.database)) as store:
        yield AgentSecrets(store, state)


def release_of(variables: Mapping[str, str], agent: str = "greeter") -> Release:
    manifest = json.dumps({"agent": {"name": agent}, "env": dict(variables)})
    proven = ReleaseStatus.PROVEN
    return Release(agent, 1, proven, "0" * 32, "0" * 64, "", manifest, "script a.py", "", now())


RELEASE = release_of({"TOKEN": "${secret:token}", "URL": "u:${secret:password}@h", "A": "b"})

MOVED = """
UPDATE agent_secrets SET sealed = (SELECT sealed FROM agent_secrets WHERE name = 'password')
WHERE name = 'token'
"""


def launch(state: StateDir, release: Release, variables: Mapping[str, str]) -> None:
    """Leave behind what a launch does: the policy."""
    policy = LaunchPolicy(release.program, Path("/bin/true"), (), Path("/"), 8100, variables)
    state.policies.mkdir(exist_ok=True)
    state.policy(release.program).write_bytes(policy_bytes(policy))


def damage(state: StateDir, statement: str) -> None:
    with closing(sqlite3.connect(state.database)) as connection, connection:
        connection.execute(statement)


# Who gets them ----------------------------------------------------------------------------------


def test_an_agent_is_given_its_variables_with_the_secrets_put_in(secrets: AgentSecrets) -> None:
    secrets.put("token", "abc")
    secrets.put("password", "two\nlines")
    expected = {"TOKEN": "abc", "URL": "u:two\nlines@h", "A": "b"}
    assert secrets.variables_of(RELEASE) == expected


def test_every_secret_that_is_not_to_be_had_is_named(secrets: AgentSecrets) -> None:
    secrets.put("password", "pass", agents=("billing-*", "mail"))
    with pytest.raises(SecretUnavailableError) as caught:
        secrets.variables_of(RELEASE)
    assert [str(problem) for problem in caught.value.problems] == [
        "env.URL: secret password is for billing-*, mail, not for greeter",
        "env.TOKEN: secret token is not there: set it with `atoll-deployer secrets set`",
    ]


def test_a_secret_is_for_the_agents_that_its_patterns_mean(secrets: AgentSecrets) -> None:
    secrets.put("token", "abc", agents=("billing-*",))
    variables = {"TOKEN": "${secret:token}"}
    assert secrets.variables_of(release_of(variables, "billing-mail")) == {"TOKEN": "abc"}
    with pytest.raises(SecretUnavailableError):
        secrets.variables_of(release_of(variables, "billing"))


def test_a_secret_that_is_set_again_keeps_when_it_was_made(secrets: AgentSecrets) -> None:
    first, was_new = secrets.put("token", "abc")
    second, is_new = secrets.put("token", "def", agents=("a",))
    assert (was_new, is_new) == (True, False)
    assert second.created_at == first.created_at < second.changed_at
    assert [(each.name, each.agents) for each in secrets.all()] == [("token", ("a",))]


def test_a_secret_that_is_removed_is_gone(secrets: AgentSecrets) -> None:
    secrets.put("token", "abc")
    secrets.remove("token")
    assert secrets.all() == ()
    with pytest.raises(SecretUnknownError):
        secrets.remove("token")


# What runs with an older one --------------------------------------------------------------------


def test_what_runs_with_the_same_secrets_has_not_changed(
    secrets: AgentSecrets, state: StateDir
) -> None:
    secrets.put("token", "abc")
    secrets.put("password", "pass")
    launch(state, RELEASE, secrets.variables_of(RELEASE))
    assert not secrets.has_changed(RELEASE)


def test_what_runs_with_another_or_a_removed_secret_has_changed(
    secrets: AgentSecrets, state: StateDir
) -> None:
    secrets.put("token", "abc")
    secrets.put("password", "pass")
    launch(state, RELEASE, secrets.variables_of(RELEASE))
    secrets.put("password", "else")
    assert secrets.has_changed(RELEASE)
    secrets.put("password", "pass")
    assert not secrets.has_changed(RELEASE)
    secrets.remove("token")
    assert secrets.has_changed(RELEASE)


def test_an_agent_without_secrets_never_has_other_ones(secrets: AgentSecrets) -> None:
    assert not secrets.has_changed(release_of({"TOKEN": "plain"}))


# What is hidden ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("s3cr3t", "token=s3cr3t, again s3cr3t"),
        ('it\'s "so"', repr('it\'s "so"')),
        ('quo"ted', json.dumps('quo"ted')),
        ("ünïcode", json.dumps("ünïcode")),
        ("first line\nsecond line", "second line"),
        ("first line\nsecond line", repr("first line\nsecond line")),
        ("a.b*c+d", "a.b*c+d"),
    ],
)
def test_a_secret_is_hidden_in_the_forms_that_python_gives_it(
    secrets: AgentSecrets, value: str, line: str
) -> None:
    secrets.put("token", value)
    (hidden,) = secrets.redact(RELEASE, [f"cannot log in: {line}"])
    assert hidden.startswith("cannot log in: ")
    assert "[secret token]" in hidden
    for part in value.splitlines():
        assert part not in hidden


def test_the_longer_of_two_secrets_is_hidden_whole(secrets: AgentSecrets) -> None:
    secrets.put("token", "abcdef")
    secrets.put("password", "abcdefghi")
    assert secrets.redact(RELEASE, ["abcdefghi abcdef"]) == ["[secret password] [secret token]"]


def test_what_runs_is_hidden_too_when_its_secret_is_another_now(
    secrets: AgentSecrets, state: StateDir
) -> None:
    launch(state, RELEASE, {"TOKEN": "older token", "URL": "u:older pass@h"})
    secrets.put("token", "newer token")
    lines = secrets.redact(RELEASE, ["older token", "newer token", "with older pass!"])
    assert lines == ["[secret token]", "[secret token]", "with [secret password]!"]


@pytest.fixture
def installed(state: StateDir, secrets: AgentSecrets) -> Release:
    """The release, known to the store, as one that may have written into a log."""
    del secrets  # it made the database
    with closing(Store(state.database)) as store:
        store.agents.add(RELEASE.agent)
        store.releases.restore(RELEASE)
    return RELEASE


def test_what_a_secret_was_before_is_hidden_for_as_long_as_a_log_may_show_it(
    secrets: AgentSecrets, installed: Release
) -> None:
    for number in range(3):
        secrets.put("token", f"value {number}")
    secrets.remove("token")
    lines = [f"value {number}" for number in range(3)]
    assert secrets.redact(installed, lines) == ["[secret token]"] * 3


def test_what_a_secret_was_before_is_hidden_from_those_it_was_for(
    secrets: AgentSecrets, installed: Release
) -> None:
    secrets.put("token", "mine", agents=(installed.agent,))
    secrets.put("token", "yours", agents=("another",))
    assert secrets.redact(installed, ["mine", "yours"]) == ["[secret token]", "yours"]


def test_a_hundred_former_values_are_kept_and_setting_the_same_again_is_none(
    secrets: AgentSecrets, installed: Release
) -> None:
    for number in range(102):
        secrets.put("token", f"value {number:03d}")
    for _ in range(3):
        secrets.put("token", "value 101")
    lines = secrets.redact(installed, [f"value {number:03d}" for number in range(102)])
    assert lines == ["value 000", *["[secret token]"] * 101]


def test_what_a_secret_was_before_goes_with_the_last_release_that_used_it(
    secrets: AgentSecrets, state: StateDir, installed: Release
) -> None:
    secrets.put("token", "older")
    secrets.put("token", "newer")
    with closing(Store(state.database)) as store:
        assert store.secrets.names_of_former() == ("token",)
        store.agents.remove(installed.agent)
        secrets.forget_former()
        assert store.secrets.names_of_former() == ()


def test_a_secret_of_three_characters_hides_nothing(secrets: AgentSecrets) -> None:
    secrets.put("token", "abc")
    assert secrets.redact(RELEASE, ["abc"]) == ["abc"]


def test_other_agents_secrets_are_no_matter(secrets: AgentSecrets) -> None:
    secrets.put("other", "s3cr3t")
    assert secrets.redact(RELEASE, ["s3cr3t"]) == ["s3cr3t"]


def test_a_damaged_manifest_hides_nothing_and_breaks_nothing(secrets: AgentSecrets) -> None:
    broken = Release(**{**_fields(RELEASE), "manifest": "{"})
    assert secrets.redact(broken, ["line"]) == ["line"]
    assert not secrets.has_changed(broken)


def _fields(release: Release) -> dict[str, object]:
    return {name: getattr(release, name) for name in Release.__slots__}


# Damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agent_secrets SET sealed = x'00' WHERE name = 'token'",
        "UPDATE agent_secrets SET agents = '[\"greeter\"]' WHERE name = 'token'",
        "UPDATE agent_secrets SET agents = 'nonsense' WHERE name = 'token'",
        "UPDATE agent_secrets SET changed_at = 'nonsense' WHERE name = 'token'",
        MOVED,
    ],
)
def test_a_damaged_row_names_itself_and_no_other(
    secrets: AgentSecrets, state: StateDir, statement: str
) -> None:
    secrets.put("token", "abc")
    secrets.put("password", "pass")
    damage(state, statement)
    problems = {each.name: each.problem for each in secrets.all()}
    assert problems == {"password": "", "token": "its row in state.db is damaged or was changed"}
    with pytest.raises(SecretUnavailableError, match="secret token cannot be read"):
        secrets.variables_of(RELEASE)
    assert secrets.variables_of(release_of({"P": "${secret:password}"})) == {"P": "pass"}
    secrets.put("token", "mended")
    assert secrets.variables_of(RELEASE)["TOKEN"] == "mended"


def test_a_lost_key_is_named_and_not_replaced_while_secrets_need_it(
    secrets: AgentSecrets, state: StateDir
) -> None:
    secrets.put("token", "abc")
    key = state.secrets_key.read_bytes()
    state.secrets_key.unlink()
    with pytest.raises(SecretUnavailableError, match=r"secrets\.key: it is missing"):
        secrets.variables_of(release_of({"TOKEN": "${secret:token}"}))
    with pytest.raises(SecretsKeyError, match="it is missing"):
        secrets.put("another", "value")
    assert secrets.find_problem() == "1 of 1 cannot be read: secrets.key: it is missing"
    state.secrets_key.write_bytes(key)
    state.secrets_key.chmod(0o600)
    assert secrets.find_problem() == ""


def test_after_a_lost_key_everything_can_be_set_anew(
    secrets: AgentSecrets, state: StateDir
) -> None:
    secrets.put("token", "abc")
    state.secrets_key.unlink()
    secrets.remove("token")
    secrets.put("token", "def")
    assert secrets.find_problem() == ""
