"""The whole application with its gate and real keys, and nothing behind its resources."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import falcon

from deployer import local_keys
from deployer.api.app import create_app
from deployer.api.callers import Callers
from deployer.api.refusals import Refusals
from deployer.api.services import Services
from deployer.api.throttles import Throttle
from deployer.settings import Settings
from deployer.state_dir import StateDir
from deployer.store import Store
from deployer.supervisord_confs import Credentials

TEXT: Final = "a-key-of-sufficient-length-for-tests"


class Part:
    """Stands where a part would: to be wired is all that a route table asks of one."""

    settings = Settings()
    store: Any

    def __getattr__(self, name: str) -> Any:
        return Part()


class WholeBody:
    """Middleware that has a body lie there as waitress has it: as a file with all of it."""

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        size = req.content_length or 0
        req.env["wsgi.input"] = req.stream = io.BytesIO(req.stream.read(size))


@contextlib.contextmanager
def wired_app(folder: Path) -> Iterator[tuple[falcon.App[Any, Any], Store]]:
    """Make the application, and the store in which its keys lie; TEXT is the first one."""
    state = StateDir(folder)
    state.token.write_text(TEXT)
    store = Store(state.database)
    local_keys.remember(state, store)
    callers = Callers(
        store,
        asks_for_keys=True,
        local_text=lambda: TEXT,
        certificates=(),
        throttle=Throttle(10),
    )
    part = Part()
    part.store = store
    known = {"callers": callers, "parts": part, "refusals": Refusals(store.audit.add)}
    services: Any = Services(**{field.name: Part() for field in fields(Services)} | known)
    try:
        app = create_app(services, "unix:///nowhere", Credentials("user", "password"))
        app.add_middleware(WholeBody())
        yield app, store
    finally:
        store.close()
