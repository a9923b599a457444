"""XML-RPC to supervisord through requests: a timeout on every call, over a Unix socket or TCP."""

from __future__ import annotations

import xmlrpc.client
from typing import Any
from xml.parsers.expat import ExpatError

import requests
from supervisor.xmlrpc import Faults

from deployer import faults
from deployer.errors import SupervisordRefusedError, SupervisordUnreachableError
from deployer.http_sessions import http_url, open_session


class SupervisordStoppingError(SupervisordUnreachableError):
    """supervisord answers, but takes no orders any more: it is shutting down or restarting."""


class Rpc:
    """Calls to one supervisord, from any thread.

    One session serves all: to open one costs as much as a call does. Its pool keeps one connection
    and looks whether that is still there before it is used again.
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
        self._session = open_session(url)
        self._session.auth = (username, password) if username else None
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
        response = self._session.post(
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
