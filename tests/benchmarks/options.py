"""How much is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """What whoever asks can choose.

    Attributes:
        rounds: Of each pair, ours and the floor in turns.
        seconds: Of each load.
        few: Agents of a small server.
        some: Of one whose list is asked for.
        many: Of one that boots, idles and stops.
        most: Of one in which some are killed.
        listed: Rows in the longest list, and programs where one more is applied.
    """

    rounds: int = 5
    seconds: float = 2.0
    few: int = 10
    some: int = 50
    many: int = 200
    most: int = 500
    listed: int = 1000
