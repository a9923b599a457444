"""What the dashboard says, as far as it is made of what is known: words, curves, the verdict."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from deployer.api import pages
from deployer.api.dashboard import sparklines, words
from deployer.api.dashboard.cards import Card, Tone, card
from deployer.api.dashboard.looks import Glance
from deployer.api.dashboard.verdicts import Verdict, judge
from deployer.api.documents import Check
from deployer.explanations import Explanation
from deployer.limits.usages import Sample
from deployer.model import (
    Agent,
    Answer,
    Deployment,
    DeploymentStatus,
    Desired,
    PortLease,
    Process,
    Release,
    ReleaseStatus,
    State,
    Strategy,
)
from deployer.readings import Reading
from deployer.statuses import AgentView

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
WELL = Answer(healthy=True, detail="HTTP 200", seconds=0.01)
ILL = Answer(healthy=False, detail="HTTP 500", seconds=0.01)
PROBLEM = Check(name="supervisord", ok=False, detail="does not answer")


def view(
    name: str = "greeter",
    state: State = State.RUNNING,
    answer: Answer = WELL,
    *,
    last_error: str = "",
) -> AgentView:
    release = Release(
        agent=name,
        number=3,
        status=ReleaseStatus.PROVEN,
        md5="0" * 32,
        sha256="0" * 64,
        version="1.2.0",
        manifest="{}",
        entry_point="script main.py",
        python="",
        created_at=NOW,
    )
    return AgentView(
        agent=Agent(name, Desired.RUNNING, NOW, 3, None, 8100, NOW, last_error=last_error),
        release=release,
        lease=PortLease(8100, name, release.program, NOW),
        process=Process(release.program, state, pid=7, started_at=NOW),
        reading=Reading(7, answer, NOW, bad_answers=0, was_healthy=True),
    )


def shown(name: str = "greeter", tone: Tone = Tone.GOOD) -> Card:
    kinds = {
        Tone.GOOD: view(name),
        Tone.WARN: view(name, answer=ILL),
        Tone.BAD: view(name, State.FATAL, last_error="it died"),
        Tone.BUSY: view(name, State.STOPPING),
    }
    look = kinds[tone]
    return card(look, "127.0.0.1", None, (), Explanation(look.agent.last_error, "roll back"))


def deployment(
    agent: str, status: DeploymentStatus, at: datetime = NOW - timedelta(hours=1)
) -> Deployment:
    return Deployment(
        id="1",
        agent=agent,
        sha256="0" * 64,
        md5="0" * 32,
        strategy=Strategy.REHEARSE,
        start=True,
        force=False,
        status=status,
        created_at=at,
    )


def verdict(*cards: Card, deployments: tuple[Deployment, ...] = ()) -> Verdict:
    return judge(cards, deployments, (), at=NOW)


# Words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "just now"),
        (0, "just now"),
        (9.9, "just now"),
        (10, "10 s"),
        (59, "50 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d"),
        (86400 * 400, "400 d"),
    ],
)
def test_ages_are_coarse(seconds: float, expected: str) -> None:
    assert words.age(NOW - timedelta(seconds=seconds), at=NOW) == expected


def test_what_is_just_now_is_not_ago() -> None:
    assert words.ago(NOW, at=NOW) == "just now"
    assert words.ago(NOW - timedelta(minutes=5), at=NOW) == "5 min ago"


def test_what_has_just_begun_runs_for_nothing_yet() -> None:
    assert words.uptime(NOW, at=NOW) == "0 s"


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [(0, "0.0 MiB"), (9.5 * 2**20, "9.5 MiB"), (10 * 2**20, "10 MiB"), (1.5 * 2**30, "1.5 GiB")],
)
def test_memory_is_written_in_the_unit_that_fits(size_bytes: float, expected: str) -> None:
    assert words.memory(size_bytes) == expected


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_names_are_listed_as_in_a_sentence(several: list[str], expected: str) -> None:
    assert words.names(several) == expected


# Curves -------------------------------------------------------------------------------------------


def test_the_latest_value_is_at_the_right_edge() -> None:
    drawn = sparklines.draw([0.0, 1.0], "1", top=1.0)
    assert drawn.line == "58,15 59,1"
    assert drawn.area == "58,16 58,15 59,1 59,16"


def test_a_single_value_is_a_line_too() -> None:
    assert sparklines.draw([1.0], "1", top=1.0).line == "58,1 59,1"


def test_no_more_than_a_minute_is_drawn() -> None:
    points = sparklines.draw([0.0, 1.0] * 50, "0", top=1.0).line.split()
    assert (points[0], points[-1], len(points)) == ("0,15", "59,1", 60)


def test_a_level_line_is_drawn_from_end_to_end() -> None:
    assert sparklines.draw([0.0] * 100, "0", top=1.0).line == "0,15 59,15"
    assert sparklines.draw([0.0] * 3 + [1.0] * 2, "1", top=1.0).line == "55,15 57,15 58,1 59,1"


def test_a_value_above_the_top_makes_it_higher() -> None:
    assert sparklines.draw([1.0, 4.0], "4", top=1.0).line == "58,11 59,1"


def test_a_quiet_value_is_drawn_the_same_as_time_goes_on() -> None:
    first = sparklines.draw([0.001, 0.0] * 40, "0", top=1.0)
    later = sparklines.draw([0.0, 0.001] * 40, "0", top=1.0)
    assert first == later


# One agent ----------------------------------------------------------------------------------------


def test_a_running_agent_says_where_it_is_and_nothing_of_causes() -> None:
    running = shown()
    assert (running.tone, running.url) == (Tone.GOOD, "http://127.0.0.1:8100")
    assert (running.cause, running.hint) == ("", "")
    assert running.version == "release 3 · 1.2.0"


def test_an_agent_that_is_down_says_why_and_what_to_do() -> None:
    down = shown(tone=Tone.BAD)
    assert (down.cause, down.url, down.first_log) == ("it died", "", "stderr")
    assert "roll back" in down.hint


def test_an_agent_that_answers_badly_is_not_well() -> None:
    ill = shown(tone=Tone.WARN)
    assert (ill.tone, ill.status) == (Tone.WARN, "degraded")
    assert "500" in ill.cause


def test_usage_is_drawn_as_soon_as_there_is_any() -> None:
    history = (Sample(None, 2**20), Sample(0.5, 2**21))
    drawn = card(view(), "h", None, history, Explanation())
    assert drawn.cpu is not None
    assert drawn.memory is not None
    assert (drawn.cpu.now, drawn.memory.now) == ("50 %", "2.0 MiB")
    assert len(drawn.memory.line.split()) == 2


def test_without_usage_there_is_no_curve() -> None:
    assert card(view(), "h", None, (), Explanation()).cpu is None


# The verdict --------------------------------------------------------------------------------------


def test_all_is_right_when_every_agent_is_well() -> None:
    given = verdict(shown("a"), shown("b"))
    assert (given.tone, given.sentence) == (Tone.GOOD, "Everything is all right.")
    assert given.detail == "2 agents: 2 running"


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert verdict().sentence == "Nothing is deployed yet."


def test_who_is_down_is_named_before_who_is_not_well() -> None:
    given = verdict(shown("a"), shown("b", Tone.WARN), shown("c", Tone.BAD))
    assert (given.tone, given.sentence, given.title) == (Tone.BAD, "c is down.", "1 down")
    assert given.detail == "3 agents: 1 running, 1 not well, 1 down"


def test_several_that_are_not_well_are_all_named() -> None:
    given = verdict(shown("a", Tone.WARN), shown("b", Tone.WARN))
    assert given.sentence == "a and b are not well."


def test_an_agent_on_its_way_is_no_reason_to_worry() -> None:
    assert verdict(shown("a", Tone.BUSY)).tone is Tone.GOOD


def test_a_server_that_takes_no_work_goes_before_all_agents() -> None:
    given = judge([shown("a", Tone.BAD)], (), [PROBLEM], at=NOW)
    assert given.sentence == "The server is not ready."


@pytest.mark.parametrize(
    "status", [DeploymentStatus.FAILED, DeploymentStatus.ROLLED_BACK, DeploymentStatus.ABANDONED]
)
def test_a_last_deployment_that_failed_is_told_although_all_agents_are_well(
    status: DeploymentStatus,
) -> None:
    given = verdict(shown("a"), deployments=(deployment("a", status),))
    assert given.tone is Tone.WARN
    assert given.sentence == "All agents are well, but the last deployment of a failed."


def test_a_deployment_that_was_canceled_or_mended_is_no_news() -> None:
    canceled = verdict(shown("a"), deployments=(deployment("a", DeploymentStatus.CANCELED),))
    mended = (
        deployment("a", DeploymentStatus.SUCCEEDED),
        deployment("a", DeploymentStatus.FAILED),
    )
    assert canceled.tone is Tone.GOOD
    assert verdict(shown("a"), deployments=mended).tone is Tone.GOOD


def test_a_deployment_that_failed_days_ago_is_no_news() -> None:
    old = deployment("a", DeploymentStatus.FAILED, NOW - timedelta(days=2))
    assert verdict(shown("a"), deployments=(old,)).tone is Tone.GOOD


# How it is looked up and written ------------------------------------------------------------------


def test_a_glance_is_taken_once_for_all_who_ask_within_its_time() -> None:
    looks = iter([1, 2])
    glance = Glance(lambda: next(looks), seconds=60)
    assert [glance.look(), glance.look()] == [1, 1]


def test_a_glance_is_taken_again_when_its_time_is_over() -> None:
    looks = iter([1, 2])
    glance = Glance(lambda: next(looks), seconds=0)
    assert [glance.look(), glance.look()] == [1, 2]


# Colours ------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Tell how bright a colour is (WCAG 2.2, relative luminance)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_what_it_is_written_on(scheme: str) -> None:
    sheet = files("deployer.api.dashboard").joinpath("assets", "page.css").read_text()
    of_light, _, of_dark = sheet.partition("@media (prefers-color-scheme: dark)")
    text = of_light if scheme == "light" else of_dark
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text))
    words = ("ink", "quiet", "accent", "good", "warn", "bad")
    pairs = [(word, ground) for word in words for ground in ("paper", "raised")]

    for word, ground in [*pairs, ("on-accent", "accent")]:
        dark, bright = sorted((luminance(colours[word]), luminance(colours[ground])))
        # what WCAG 2.2 asks for at level AA, 1.4.3
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, (word, ground)


def test_whatever_a_template_is_given_is_text() -> None:
    written = pages.render("login.html.j2", {"message": "<script>alert('x')</script>"})
    assert "<script>" not in written
    assert "&lt;script&gt;" in written
