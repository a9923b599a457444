"""How well agents are to be kept apart."""

from __future__ import annotations

from deployer.isolation_levels import IsolationLevel
from deployer.settings.addresses import AbsolutePath
from deployer.settings.sections import Section


class IsolationSettings(Section):
    """How well agents are to be kept apart.

    Attributes:
        require: Below this level the server refuses to serve; nothing: the best to be had here.
        use: The best level that is tried; nothing: the best there is.
        readable: Files and directories that every agent may read, such as models that all share.
        writable: The same, to write as far as their modes allow; devices are meant as well.
    """

    require: IsolationLevel | None = None
    use: IsolationLevel | None = None
    readable: tuple[AbsolutePath, ...] = ()
    writable: tuple[AbsolutePath, ...] = ()
