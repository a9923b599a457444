"""All that an agent writes, from one release to the next, for readers who come and go.

Each release has a log of its own. A reader follows those of all of them at once: the new release
writes before the old one is retired, and a rollback goes on in a log that was read before. Where a
reader is in each of them is its bookmark, so that it can go on there in another process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from deployer.log_files import START, Position
from deployer.logs import Follower
from deployer.model import Release
from deployer.store import Store

_BOOKMARK_RELEASES: Final = 16
"""Older releases than so many are left out of bookmarks, which travel in headers."""

_EMPTY: Final = "0"


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a reader has come in the logs of an agent's releases.

    Attributes:
        positions: By the number of the release; the first is the one that was read last.
    """

    positions: tuple[tuple[int, Position], ...] = ()

    def __str__(self) -> str:
        """Write it for a client to give back."""
        return "_".join(f"{number}-{place}" for number, place in self.positions) or _EMPTY

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `__str__` wrote.

        Raises:
            ValueError: It is something else.
        """
        if text == _EMPTY:
            return cls()
        positions = []
        for part in text.split("_"):
            number, _, place = part.partition("-")
            if not (number.isascii() and number.isdecimal() and len(number) < 10):  # noqa: PLR2004 - as in addresses
                raise ValueError(f"{number!r} is no number of a release")
            positions.append((int(number), Position.parse(place)))
        return cls(tuple(positions))


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines that one release wrote, one after another.

    Attributes:
        release: Its number.
        lines: As `deployer.logs.tail` gives them; empty when there is nothing but a gap.
        has_gap: Lines may be missing before them.
    """

    release: int
    lines: list[str]
    has_gap: bool = False


class AgentLog:
    """A reader of one stream of an agent's logs, over all of its releases.

    An unfinished line waits for its end.
    """

    def __init__(
        self,
        store: Store,
        agent: str,
        path_of: Callable[[Release], Path],
        *,
        redact: Callable[[Release, list[str]], list[str]] = lambda _, lines: lines,
        lines: int = 0,
        after: Bookmark | None = None,
    ) -> None:
        """Open the logs.

        Args:
            store: Knows the agent's releases.
            agent: Its name.
            path_of: Tells where supervisord writes the log of a release.
            redact: Takes out of a release's lines what nobody may read in them.
            lines: With how many of the lines to begin that the current release has written.
            after: Where to go on instead.

        Raises:
            AgentUnknownError: There is none of this name.
        """
        self._store = store
        self._agent = agent
        self._path_of = path_of
        self._redact = redact
        self._releases: dict[int, Release] = {}
        self._followers: dict[int, Follower] = {}
        self._gone: set[int] = set()
        self._lost: int | None = None
        """The release whose rest is lost, and not told as such yet."""
        self._last = store.agents.get(agent).current or 0
        self._generation = store.generation
        self._releases = {each.number: each for each in store.releases.of_agent(agent)}
        if after is None:
            for number, release in self._releases.items():
                begin = lines if number == self._last else 0
                self._followers[number] = Follower(path_of(release), lines=begin)
        else:
            self._go_on(after)

    def close(self) -> None:
        """Let go of the files; reading is over."""
        for follower in self._followers.values():
            follower.close()

    @property
    def bookmark(self) -> Bookmark:
        """Where the first line begins that was not given yet, in each release's log."""
        numbers = sorted(self._followers, key=lambda each: (each != self._last, -each))
        kept = numbers[:_BOOKMARK_RELEASES]
        return Bookmark(tuple((each, self._followers[each].position) for each in kept))

    def begin(self, *, with_unfinished: bool = False) -> Batch | None:
        """Give what it begins with, and read nothing: the last lines of the current release.

        Args:
            with_unfinished: Also what there is of a line that is not finished; it is read again
                when it is.
        """
        follower = self._followers.get(self._last)
        if follower is None:
            return None
        rest = [follower.unfinished] if with_unfinished and follower.unfinished else []
        return self._batch(self._last, [*follower.begin(), *rest])

    def read(self, max_bytes: int) -> Batch | None:
        """Read what one of the releases has written since; never waits.

        Args:
            max_bytes: How much to read, about.

        Returns:
            Its lines, or None when there is nothing new in any log.

        Raises:
            AgentUnknownError: The agent was removed.
        """
        if self._store.generation != self._generation:
            self._look_for_releases()
        if self._lost is not None:
            number, self._lost = self._lost, None
            return Batch(number, [], has_gap=True)
        # Another one first than the last time: a flood must not hide what the others say.
        numbers = sorted(self._followers)
        split = sum(number <= self._last for number in numbers)
        for number in [*numbers[split:], *numbers[:split]]:
            follower = self._followers[number]
            lines = follower.read(max_bytes)
            if lines or follower.has_gap:
                self._last = number
                return self._batch(number, lines, has_gap=follower.has_gap)
            if number in self._gone:
                follower.close()
                self._gone.remove(number)
                del self._followers[number]
        return None

    def _batch(self, number: int, lines: list[str], *, has_gap: bool = False) -> Batch:
        return Batch(number, self._redact(self._releases[number], lines), has_gap=has_gap)

    def _go_on(self, after: Bookmark) -> None:
        """Follow what there is from where a bookmark says, and what came since from its start."""
        positions = dict(after.positions)
        newest = max(positions, default=0)
        for number, release in self._releases.items():
            place = positions.get(number, START if number > newest else None)
            self._followers[number] = Follower(self._path_of(release), after=place)
        if after.positions:
            self._last = after.positions[0][0]
            if self._last not in self._releases:
                self._lost = self._last

    def _look_for_releases(self) -> None:
        self._generation = self._store.generation
        self._store.agents.get(self._agent)
        found = {each.number: each for each in self._store.releases.of_agent(self._agent)}
        for number, release in found.items():
            if number not in self._followers:
                self._followers[number] = Follower(self._path_of(release), after=START)
        self._gone = self._followers.keys() - found.keys()
        self._releases |= found
