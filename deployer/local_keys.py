"""The key that lies in the state directory: the first one there is, and this machine's own way in.

Whoever can read the file can read everything else of the server's too, so it may do everything.
"""

from __future__ import annotations

from deployer.agent_patterns import EVERY_AGENT
from deployer.errors import ServeRefusedError
from deployer.keys import SHORTEST_TEXT, Key, Scope, digest_of, id_of, new_text
from deployer.programs import replace_file
from deployer.state_dir import StateDir
from deployer.store import Store, now


def read_text(state: StateDir) -> str:
    """Read the key's text, made when there is none yet.

    Raises:
        ServeRefusedError: What lies there can be no secret.
    """
    if not state.token.exists():
        replace_file(state.token, f"{new_text()}\n".encode())
    try:
        text = state.token.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        text = ""
    # An empty one would match every request that carries none.
    if len(text) < SHORTEST_TEXT or not text.isprintable() or " " in text:
        raise ServeRefusedError(
            f"cannot use the key in {state.token}: it must have at least {SHORTEST_TEXT} printable"
            " ASCII characters; delete the file, and a new key is made"
        )
    return text


def remember(state: StateDir, store: Store) -> None:
    """Let the key in the file in, and no other one that lay there before."""
    text = read_text(state)
    known = store.keys.find(digest_of(text))
    if known is None or not known.is_local:
        store.keys.add(
            Key(
                id=id_of(text),
                name="local",
                scope=Scope.ADMIN,
                agents=EVERY_AGENT,
                digest=digest_of(text),
                created_at=now(),
                is_local=True,
            )
        )


def renew(state: StateDir, store: Store) -> None:
    """Put another key in the place of the one in the file, which is none from now on."""
    replace_file(state.token, f"{new_text()}\n".encode())
    remember(state, store)
