"""Subjects of client certificates, and the rules that say what their holders may do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from deployer.keys import Caller, Scope

Subject = tuple[tuple[str, str], ...]
"""Attributes with their values, in order: ``(("CN", "ci"), ("O", "Example"))``."""

_ATTRIBUTE: Final = r"([A-Za-z0-9.-]+)=((?:[^,+\\]|\\.)*)"
_SUBJECT: Final = re.compile(f"{_ATTRIBUTE}(?:,{_ATTRIBUTE})*", re.DOTALL)


def read_subject(text: str) -> Subject:
    """Take a subject apart that is written as in RFC 4514 (nginx: ``$ssl_client_s_dn``).

    Values stay escaped as they are: a comma in a value is no border, and a rule for ``CN=*`` must
    not swallow the attributes that follow.

    Raises:
        ValueError: It is none, or an attribute of it has several values.
    """
    if not _SUBJECT.fullmatch(text):
        raise ValueError(
            "must be a subject as in RFC 4514, with one value for each attribute,"
            f" such as 'CN=ci,O=Example', not {text[:80]!r}"
        )
    found = re.findall(_ATTRIBUTE, text, re.DOTALL)
    return tuple((name.upper(), value) for name, value in found)


@dataclass(frozen=True, slots=True)
class CertificateRule:
    """What the holders of certificates may do.

    Attributes:
        subject: The attributes that a certificate must have, all of them and in this order; ``*``
            in a value stands for any characters.
        scope: How much they may do.
        agents: Patterns of the agents for which that holds.
    """

    subject: Subject
    scope: Scope
    agents: tuple[str, ...]

    def matches(self, subject: Subject) -> bool:
        """Tell whether it is meant for the holder of a certificate with this subject."""
        return len(subject) == len(self.subject) and all(
            name == wanted_name and _pattern(wanted).fullmatch(value)
            for (name, value), (wanted_name, wanted) in zip(subject, self.subject, strict=True)
        )


def caller_of(subject: str, rules: tuple[CertificateRule, ...]) -> Caller | None:
    """Tell who the holder of a certificate is by the first rule that fits; None: by none."""
    try:
        attributes = read_subject(subject)
    except ValueError:
        return None
    for rule in rules:
        if rule.matches(attributes):
            return Caller(who=f"mtls:{subject}", scope=rule.scope, agents=rule.agents)
    return None


def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, value.split("*"))), re.DOTALL)
