"""What the contract shows beside its shapes: one agent's life, as the API would tell it."""

from __future__ import annotations

from deployer.api.examples.bodies import BODIES, TEXTS
from deployer.api.examples.documents import DOCUMENTS, UNFINISHED
from deployer.api.examples.problems import problem_example

__all__ = ["BODIES", "DOCUMENTS", "TEXTS", "UNFINISHED", "problem_example"]
