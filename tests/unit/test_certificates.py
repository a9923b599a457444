"""Subjects of client certificates, and which rule they fall under."""

from __future__ import annotations

import pytest

from deployer.certificates import CertificateRule, caller_of, read_subject
from deployer.keys import Scope


def rule(subject: str, scope: Scope = Scope.DEPLOY) -> CertificateRule:
    return CertificateRule(read_subject(subject), scope, ("*",))


@pytest.mark.parametrize(
    "subject",
    ["", "ci", "CN=ci,", ",CN=ci", "CN=ci,,O=x", "CN=a+OU=b", "CN=ci\\", "C N=x", "/CN=ci/O=x"],
)
def test_what_is_no_subject_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="RFC 4514"):
        read_subject(subject)


@pytest.mark.parametrize(
    ("wanted", "subject"),
    [
        ("CN=ci,O=Example", "CN=ci,O=Example"),
        ("cn=ci,o=Example", "CN=ci,O=Example"),
        ("CN=*,O=Example", "CN=anybody at all,O=Example"),
        ("CN=ci-*,O=Example", "CN=ci-7,O=Example"),
        ("CN=a\\,b", "CN=a\\,b"),
        ("CN=[x]*", "CN=[x]y"),
    ],
)
def test_a_rule_fits_the_subjects_that_it_names(wanted: str, subject: str) -> None:
    caller = caller_of(subject, (rule(wanted),))
    assert caller is not None
    assert (caller.who, caller.scope) == (f"mtls:{subject}", Scope.DEPLOY)


@pytest.mark.parametrize(
    ("wanted", "subject"),
    [
        ("CN=ci,O=Example", "CN=ci,O=Other"),
        ("CN=ci,O=Example", "CN=ci"),
        ("CN=ci", "CN=ci,O=Example"),
        ("CN=ci,O=Example", "O=Example,CN=ci"),
        ("CN=ci", "CN=CI"),
        ("CN=c?", "CN=ci"),
        # a comma that belongs to the value must not become a border, nor the other way round
        ("CN=*,O=Example", "CN=evil\\,O=Example"),
        ("CN=*,O=Example", "CN=evil,OU=x,O=Example"),
        ("CN=*", "CN=evil+O=Example"),
        ("CN=ci", "CN=ci\\"),
        ("CN=ci", "CN=ci\n"),
    ],
)
def test_a_rule_fits_nothing_else(wanted: str, subject: str) -> None:
    assert caller_of(subject, (rule(wanted),)) is None


def test_the_first_rule_that_fits_counts() -> None:
    rules = (rule("CN=ci", Scope.READ), rule("CN=*", Scope.ADMIN))
    found = [caller_of(subject, rules) for subject in ("CN=ci", "CN=me")]
    assert [caller and caller.scope for caller in found] == [Scope.READ, Scope.ADMIN]
