"""A whole terminal for a while: drawn again and again, until a key says that it is enough."""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from deployer.cli.terminals import Terminal

_ENTER: Final = "\x1b[?1049h\x1b[?25l"  # the other buffer, no cursor
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
_REST: Final = "\x1b[J"
_QUIT: Final = frozenset(b"qQ\x03\x04")
_GLANCE_SECONDS: Final = 0.2


class Screen:
    """The terminal's other buffer, and its keys one by one; all as it was when the block ends."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self._before: list[Any] = []
        self._size = os.terminal_size((0, 0))

    @staticmethod
    def is_possible(terminal: Terminal) -> bool:
        """Tell whether somebody looks, and can press keys."""
        return terminal.is_rich and sys.stdin.isatty()

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin)
        _write(_ENTER)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Give it back; Ctrl-C is a way to end like any other here."""
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
        _write(_LEAVE)
        return error_type is KeyboardInterrupt

    def is_left(self, seconds: float, lines: Callable[[], Sequence[str]]) -> bool:
        """Draw, and wait for a key that ends it.

        Args:
            seconds: How long to wait.
            lines: Gives what is drawn, none longer than the terminal is wide; it is asked again
                when the terminal changes its size.

        Returns:
            True: it was ended; False: the time is up.
        """
        deadline = time.monotonic() + seconds
        self._draw(lines())
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([sys.stdin], [], [], min(left, _GLANCE_SECONDS))
            if ready:
                keys = os.read(sys.stdin.fileno(), 64)
                if not keys or _QUIT.intersection(keys):
                    return True
            if shutil.get_terminal_size() != self._size:
                self._draw(lines())
        return False

    def _draw(self, lines: Sequence[str]) -> None:
        self._size = shutil.get_terminal_size()
        rows = max(1, self._size.lines - 1)
        shown = list(lines[:rows])
        if len(lines) > rows:
            shown[-1] = f"... and {len(lines) - rows + 1} more; make the terminal higher"
        text = "".join(f"{line}{_REST_OF_LINE}\n" for line in shown)
        _write(f"{_HOME}{text}{_REST}")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
