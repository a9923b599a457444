"""What waitress listens with: how much it takes and holds, and who is refused before any route."""

from __future__ import annotations

from typing import Any, Final

from waitress.server import create_server

from deployer.api import accesses, connections
from deployer.api.channels import refuse_with_problems
from deployer.api.prompt_looks import PromptLooks
from deployer.api.proxies import Proxies, Wsgi
from deployer.api.services import Services
from deployer.api.unparsed import Bouncer
from deployer.listeners import bind_socket

THREADS: Final = 32
_ABOVE_LIMIT_BYTES: Final = 1024 * 1024
_OUTPUT_BYTES: Final = 1024 * 1024
"""What one connection may hold: waitress keeps what it has sent until a buffer is so full."""

_SPOOL_BYTES: Final = 1024 * 1024
_RECEIVE_BYTES: Final = 256 * 1024
"""At once. Each piece is a turn of the loop and five system calls: in waitress's own of 8 KiB
an upload of 200 MB has 25,000 of them."""


def listen(app: Wsgi, services: Services) -> Any:
    """Begin to listen where the settings say; requests are answered once its ``run`` is called.

    Args:
        app: Answers what is let in.
        services: Of the server.

    Returns:
        What `waitress.server.create_server` makes.
    """
    parts = services.parts
    settings, upload_bytes = parts.settings, parts.settings.limits.upload_bytes
    api_socket = settings.api_socket
    proxies = Proxies(settings.trusted_proxies, is_unix=api_socket is not None)
    place: dict[str, Any] = {"host": settings.host, "port": settings.api_port}
    if api_socket is not None:
        place = {"sockets": [bind_socket(api_socket, settings.socket_mode)]}
    listener = create_server(
        proxies.wrap(accesses.wrap(app, parts.instruments)),
        **place,
        threads=THREADS,
        ident="atoll-deployer",
        max_request_body_size=upload_bytes + _ABOVE_LIMIT_BYTES,
        inbuf_overflow=_SPOOL_BYTES,
        recv_bytes=_RECEIVE_BYTES,
        outbuf_high_watermark=_OUTPUT_BYTES,
        asyncore_use_poll=True,
        connection_limit=connections.affordable() + connections.MARGIN,
        channel_request_lookahead=1,  # or nobody sees that the client of a held request left
        clear_untrusted_proxy_headers=False,  # we do, for more headers and proxies than it can
    )
    bouncer = Bouncer(services.callers, proxies, services.refusals)
    looks = PromptLooks(services.callers, services.agents)
    refuse_with_problems(listener, upload_bytes, bouncer, parts.instruments, looks)
    return listener
