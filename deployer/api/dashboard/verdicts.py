"""The first line of the dashboard: is everything all right, and if not, what is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from deployer.api.dashboard import words
from deployer.api.dashboard.cards import Card, Tone
from deployer.api.documents import Check
from deployer.model import Deployment, DeploymentStatus

_LOST: Final = frozenset(
    {DeploymentStatus.FAILED, DeploymentStatus.ROLLED_BACK, DeploymentStatus.ABANDONED}
)
_NEWS: Final = timedelta(days=1)
"""How long a deployment that failed is worth a word, while all agents are well."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How everything is.

    Attributes:
        tone: Of the worst there is.
        sentence: The verdict itself.
        detail: What it is made of.
        title: The same for a tab, in a word or two.
        failed: Deployments that came to nothing, and should be looked at too.
    """

    tone: Tone
    sentence: str
    detail: str
    title: str
    failed: tuple[Deployment, ...] = ()


def is_lost(deployment: Deployment) -> bool:
    """Tell whether a deployment came to nothing although nobody wanted that."""
    return deployment.status in _LOST


def failed_last(deployments: Sequence[Deployment], *, at: datetime) -> tuple[Deployment, ...]:
    """Find those that were the last of their agent, and came to nothing not long ago.

    Args:
        deployments: The newest first.
        at: Now.
    """
    last: dict[str, Deployment] = {}
    for each in deployments:
        last.setdefault(each.agent, each)
    return tuple(each for each in last.values() if is_lost(each) and at - each.created_at < _NEWS)


def judge(
    cards: Sequence[Card],
    deployments: Sequence[Deployment],
    ailing_checks: Sequence[Check],
    *,
    at: datetime,
) -> Verdict:
    """Say how everything is that somebody may see.

    Args:
        cards: Their agents.
        deployments: The latest of these, the newest first.
        ailing_checks: What keeps the server itself from taking work.
        at: Now.
    """
    bad = [card.name for card in cards if card.tone is Tone.BAD]
    warn = [card.name for card in cards if card.tone is Tone.WARN]
    failed = failed_last(deployments, at=at)
    lost = sorted({each.agent for each in failed} - {*bad, *warn})
    detail = _census(cards, deployments)
    if ailing_checks:
        return Verdict(Tone.BAD, "The server is not ready.", detail, "not ready", failed)
    if bad:
        return Verdict(Tone.BAD, _needs(bad, "down"), detail, f"{len(bad)} down", failed)
    if warn:
        sentence = _needs(warn, "not well")
        return Verdict(Tone.WARN, sentence, detail, f"{len(warn)} not well", failed)
    if lost:
        sentence = f"All agents are well, but {_deployment_of(lost)} failed."
        return Verdict(Tone.WARN, sentence, detail, "a deployment failed", failed)
    if not cards:
        return Verdict(Tone.IDLE, "Nothing is deployed yet.", "", "empty")
    return Verdict(Tone.GOOD, "Everything is all right.", detail, "all right")


def _needs(agents: list[str], how: str) -> str:
    return f"{words.names(agents)} {'is' if len(agents) == 1 else 'are'} {how}."


def _deployment_of(agents: list[str]) -> str:
    if len(agents) == 1:
        return f"the last deployment of {agents[0]}"
    return f"the last deployments of {words.names(agents)}"


def _census(cards: Sequence[Card], deployments: Sequence[Deployment]) -> str:
    """Count agents by how they are, and deployments that go on."""
    counted = {
        "running": [Tone.GOOD],
        "on the way": [Tone.BUSY],
        "at rest": [Tone.IDLE],
        "not well": [Tone.WARN],
        "down": [Tone.BAD],
    }
    parts = []
    for word, tones in counted.items():
        number = sum(card.tone in tones for card in cards)
        if number:
            parts.append(f"{number} {word}")
    under_way = sum(not each.status.is_over for each in deployments)
    if under_way:
        parts.append(f"{words.count(under_way, 'deployment')} under way")
    return f"{words.count(len(cards), 'agent')}: {', '.join(parts)}" if parts else ""
