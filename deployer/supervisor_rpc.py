"""XML-RPC to supervisord: a timeout on every call, over a Unix socket or TCP."""

from __future__ import annotations

import http.client
import xmlrpc.client
from typing import Any
from xml.parsers.expat import ExpatError

from supervisor.xmlrpc import Faults

from deployer import faults
from deployer.errors import SupervisordRefusedError, SupervisordUnreachableError
from deployer.supervisor_http import SupervisorHttp


class SupervisordStoppingError(SupervisordUnreachableError):
    """supervisord answers, but takes no orders any more: it is shutting down or restarting."""


class Rpc:
    """Calls to one supervisord, from any thread."""

    def __init__(self, url: str, username: str, password: str, timeout_seconds: float) -> None:
        """Remember the way; nothing is sent yet.

        Args:
            url: ``unix:///path/of/supervisor.sock`` or ``http://host:port``.
            username: As in supervisord's configuration; empty: none is asked for.
            password: Goes with it.
            timeout_seconds: For connecting, and then for each pause of the answer.
        """
        self._url = url
        self._http = SupervisorHttp(url, username, password)
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
        except (
            OSError,
            http.client.HTTPException,
            ExpatError,
            xmlrpc.client.ResponseError,
        ) as error:
            raise SupervisordUnreachableError(
                f"cannot {act}: supervisord at {self._url} does not answer as it should: {error}",
                cause="supervisord does not answer",
                hint="look whether supervisord runs, and into its log",
            ) from error

    def _post(self, body: str) -> bytes:
        seconds = self._timeout_seconds
        page = self._http.ask(
            "RPC2", body.encode(), connect_seconds=seconds, answer_seconds=seconds
        )
        if page.is_error:
            raise xmlrpc.client.ResponseError(f"HTTP {page.status}")
        return page.content


def _error(act: str, fault: xmlrpc.client.Fault) -> Exception:
    """Make a fault our own error; its text reads ``NAME: reason``."""
    if fault.faultCode == Faults.SHUTDOWN_STATE:
        return SupervisordStoppingError(
            f"cannot {act}: supervisord is shutting down", cause="supervisord is shutting down"
        )
    return SupervisordRefusedError(
        f"cannot {act}: supervisord says {fault.faultString}", cause=fault.faultString
    )
