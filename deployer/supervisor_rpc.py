"""XML-RPC to supervisord through requests: a timeout on every call, over a Unix socket or TCP."""

from __future__ import annotations

import socket
import xmlrpc.client
from typing import Any, Final
from xml.parsers.expat import ExpatError

import requests
import urllib3
from requests.adapters import HTTPAdapter
from supervisor.xmlrpc import Faults

from deployer import faults
from deployer.errors import SupervisordRefusedError, SupervisordUnreachableError

_NOWHERE: Final = "http://supervisord"


class SupervisordStoppingError(SupervisordUnreachableError):
    """supervisord answers, but takes no orders any more: it is shutting down or restarting."""


class Rpc:
    """Calls to one supervisord, each with a connection of its own, so from any thread.

    On a Unix socket keeping connections alive gains nothing, and stale ones cannot be met.
    """

    def __init__(self, url: str, username: str, password: str, timeout_seconds: float) -> None:
        """Remember the way; nothing is sent yet.

        Args:
            url: ``unix:///path/of/supervisor.sock`` or ``http://host:port``.
            username: As in supervisord's configuration; empty: none is asked for.
            password: Goes with it.
            timeout_seconds: For connecting, and then for each pause of the answer.
        """
        self._url = url
        self._auth = (username, password) if username else None
        self._timeout_seconds = timeout_seconds

    def call(self, act: str, method: str, *arguments: str | int, fine: tuple[int, ...] = ()) -> Any:
        """Call a method.

        Args:
            act: Completes the sentence "cannot ..." should it fail.
            method: Of the XML-RPC interface.
            arguments: Of the method.
            fine: Faults that mean it was so already; None is returned then.

        Raises:
            SupervisordUnreachableError: No answer in time, or one that is no XML-RPC.
            SupervisordStoppingError: It is shutting down.
            SupervisordRefusedError: Any other fault.
        """
        try:
            answer = self._post(xmlrpc.client.dumps(arguments, method))
            faults.reach(method)
            return xmlrpc.client.loads(answer)[0][0]
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in fine:
                return None
            raise _error(act, fault) from fault
        except (requests.RequestException, ExpatError, xmlrpc.client.ResponseError) as error:
            raise SupervisordUnreachableError(
                f"cannot {act}: supervisord at {self._url} does not answer as it should: {error}",
                cause="supervisord does not answer",
                hint="look whether supervisord runs, and into its log",
            ) from error

    def _post(self, body: str) -> bytes:
        with open_session(self._url) as session:
            session.auth = self._auth
            response = session.post(
                f"{http_url(self._url)}/RPC2",
                data=body.encode(),
                headers={"Content-Type": "text/xml"},
                timeout=self._timeout_seconds,
                allow_redirects=False,
            )
            response.raise_for_status()
            return response.content


def _error(act: str, fault: xmlrpc.client.Fault) -> Exception:
    """Make a fault our own error; its text reads ``NAME: reason``."""
    if fault.faultCode == Faults.SHUTDOWN_STATE:
        return SupervisordStoppingError(
            f"cannot {act}: supervisord is shutting down", cause="supervisord is shutting down"
        )
    return SupervisordRefusedError(
        f"cannot {act}: supervisord says {fault.faultString}", cause=fault.faultString
    )


def http_url(url: str) -> str:
    """Spell the root of supervisord's HTTP for a session out of `open_session`."""
    return _NOWHERE if url.startswith("unix://") else url.rstrip("/")


def open_session(url: str) -> requests.Session:
    """Open a session that reaches supervisord at a ``unix://`` or ``http://`` URL; no proxies."""
    session = requests.Session()
    session.trust_env = False
    if url.startswith("unix://"):
        session.mount(_NOWHERE, UnixAdapter(url.removeprefix("unix://")))
    return session


class UnixAdapter(HTTPAdapter):
    """Sends requests to a Unix socket, whatever host they name."""

    def __init__(self, path: str) -> None:
        """Connect to path."""
        super().__init__()
        self._pool = _UnixPool(path)

    def get_connection_with_tls_context(self, *_args: Any, **_kwargs: Any) -> _UnixPool:
        """Give the one pool there is; requests asks here since 2.32."""
        return self._pool

    def close(self) -> None:
        """Close the connection."""
        self._pool.close()
        super().close()


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("supervisord")
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path)


class _UnixConnection(urllib3.connection.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("supervisord")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout if isinstance(self.timeout, float | int) else None)
        self.sock.connect(self._path)
