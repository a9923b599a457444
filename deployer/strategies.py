"""How a new release takes the place of the one that serves: which way is chosen."""

from __future__ import annotations

from deployer.errors import StrategyUnsupportedError
from deployer.launches import read_manifest
from deployer.model import Strategy


def choose_strategy(name: str | None, manifest: str) -> Strategy:
    """Choose how a release takes over: as asked, else as its manifest says, else rehearse.

    Args:
        name: What is asked for; None or empty: nothing.
        manifest: The release's, as JSON text; not read when something is asked for.

    Raises:
        StrategyUnsupportedError: There is none of this name.
    """
    if not name:
        return read_manifest(manifest).deployment.strategy or Strategy.REHEARSE
    if name not in set(Strategy):
        raise StrategyUnsupportedError(
            f"cannot deploy by {name[:40]!r}: it is one of {', '.join(Strategy)}",
            cause=f"no such strategy: {name[:40]}",
        )
    return Strategy(name)
