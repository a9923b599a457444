"""References to secrets in the values of variables."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.errors import ManifestInvalidError
from deployer.manifest import parse_manifest
from deployer.secret_references import check_references, expand, recover, secrets_in

VALUES = {"a": "1", "B.b_b-2": "two\nlines"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("${secret:a}", "1"),
        ("x${secret:a}y${secret:B.b_b-2}z", "x1ytwo\nlinesz"),
        ("${secret:a}${secret:a}", "11"),
        ("$${secret:a}", "${secret:a}"),
        ("$$${secret:a}", "$${secret:a}"),
        ("$$${secret:a}${secret:a}", "$${secret:a}1"),
        ("${HOME} $5 $$ {secret:a}", "${HOME} $5 $$ {secret:a}"),
        ("$${secret:", "${secret:"),
        ("", ""),
    ],
)
def test_references_are_replaced_and_nothing_else(text: str, expanded: str) -> None:
    check_references(text)
    assert expand(text, VALUES) == expanded


@pytest.mark.parametrize(
    "text",
    ["${secret:}", "${secret:a", "${secret:a b}", "${secret:1}", "x${secret:é}", "${secret:"],
)
def test_half_a_reference_is_refused_without_showing_the_value(text: str) -> None:
    data = f'[agent]\nname = "a"\n[env]\nTOKEN = "hidden {text}"\n'.encode()
    with pytest.raises(ManifestInvalidError) as caught:
        parse_manifest(data)
    assert [problem.where for problem in caught.value.problems] == ["agent.toml: env.TOKEN"]
    assert "must have the name of a secret" in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_a_value_names_its_secrets_once() -> None:
    assert secrets_in("${secret:b}${secret:a}$${secret:c}${secret:b}") == {"a", "b"}


@given(st.text(), st.text(), st.text())
@example("$", "x", "}")
@example("$${secret:", "x", "$")
def test_what_was_put_in_is_found_again(before: str, value: str, after: str) -> None:
    text = f"{before}${{secret:a}}{after}"
    try:
        check_references(text)
    except ValueError:
        return
    if secrets_in(text) == {"a"}:
        assert recover(text, expand(text, {"a": value})) == value


def test_of_several_secrets_in_one_value_all_of_it_is_taken() -> None:
    assert recover("${secret:a}:${secret:b}", "1:2") == "1:2"


def test_a_value_with_very_many_references_is_read_at_once() -> None:
    text = "".join(f"${{secret:s{number}}}x" for number in range(4000))
    began = time.process_time()
    recover(text, "x" * 100_000)
    assert len(secrets_in(text)) == 4000
    assert time.process_time() - began < 1
