"""One server's address and token, and how requests travel there and answers come back."""

from __future__ import annotations

import ipaddress
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from deployer import __version__
from deployer.client.problems import error_from_problem, error_from_status
from deployer.client.retries import (
    IDEMPOTENT_METHODS,
    PATIENT_PAUSES,
    PAUSES,
    Retries,
    told_seconds,
)
from deployer.errors import (
    AuthenticationRequiredError,
    DeployerError,
    Kind,
    ServerUnreachableError,
)
from deployer.http_sessions import http_url, open_session

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from deployer.client.archives import Upload

CONNECT_SECONDS: Final = 10.0
_GATEWAY_STATUSES: Final = frozenset({502, 503, 504})
_NO_CONTENT, _FIRST_REDIRECT, _FIRST_ERROR = 204, 300, 400


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no error.

    Attributes:
        status: Of HTTP, below 300.
        document: The JSON object of the body; empty when there is no body.
    """

    status: int
    document: Mapping[str, Any]


class NotStreamedError(Exception):
    """The server has what was asked for, but gives it only as it is now."""


class _Bearer(AuthBase):
    """The token, if there is one; being there at all keeps requests from asking ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Session:
    """A way to one server. Not for several threads at once, as requests' own sessions."""

    def __init__(self, url: str, token: str | None = None, *, timeout_seconds: float = 30) -> None:
        """Prepare for requests to url; nothing is sent yet.

        Args:
            url: ``http://HOST:PORT``, with a path when a proxy serves it below one, or
                ``unix:///PATH``.
            token: What the server's STATE/token holds; None for a server without tokens.
            timeout_seconds: For one answer, beyond what a request asks the server to hold it.

        Raises:
            ServerUnreachableError: The address cannot be one.
            AuthenticationRequiredError: The token cannot be one.
        """
        self.url = _server_url(url)
        self.timeout_seconds = timeout_seconds
        self._token = token
        self._root = http_url(self.url)
        self._http = open_session(self.url)
        self._http.auth = _Bearer(_checked(token))
        self._http.headers["User-Agent"] = f"atoll-deployer/{__version__}"
        self._http.headers["Accept"] = "application/json, application/problem+json"
        # A proxy named in the variables is for the world outside and cannot reach this host's
        # loopback, but would get to see the token.
        self._http.trust_env = not _is_local(self.url)
        self._has_answered = False

    def twin(self) -> Self:
        """Make another way to the same server, for another thread."""
        return type(self)(self.url, self._token, timeout_seconds=self.timeout_seconds)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def call(  # noqa: PLR0913 - each is a part of the request, by its name
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        media: Any = None,
        body: bytes | Upload | None = None,
        headers: Mapping[str, str] | None = None,
        hold_seconds: float = 0,
        idempotency_key: str | None = None,
        is_idempotent: bool = False,
        also_good: Collection[int] = (),
    ) -> Reply:
        """Send one request and read its answer.

        What does no more when it is sent twice is tried again when the connection fails or a proxy
        says that the server is not there, and when the server says when to ask again: GET, HEAD,
        PUT and DELETE, what comes with a key, and what its caller says is so.

        Args:
            method: Of HTTP.
            path: Below the server's address, beginning with a slash, quoted.
            params: Of the query; None values are left out.
            media: An object to send as JSON.
            body: Bytes to send, or an object with ``read`` and ``__len__``.
            headers: To send beside the session's own.
            hold_seconds: How long the server was asked to hold the request.
            idempotency_key: By which the server knows a request that it has done already.
            is_idempotent: That it does no more when it is sent twice, whatever its method.
            also_good: Statuses that are no errors here.

        Raises:
            DeployerError: The server's own error, rebuilt from its problem document.
            ServerUnreachableError: No answer, or none that such a server gives.
        """
        sent = dict(headers or {})
        if idempotency_key is not None:
            sent["Idempotency-Key"] = f'"{idempotency_key}"'
            is_idempotent = True
        may_repeat = is_idempotent or method in IDEMPOTENT_METHODS
        pauses = PATIENT_PAUSES if self._has_answered else PAUSES
        retries = Retries(pauses if may_repeat else ())
        is_repeated = False
        while True:
            try:
                response = self._send(method, path, params, media, body, sent, hold_seconds)
            except ServerUnreachableError as error:
                # It is there, and slow: asking again would only add to that.
                if isinstance(error.__cause__, requests.Timeout) or not retries.pause():
                    raise
            else:
                self._has_answered = True
                if not self._is_put_off(response, retries):
                    break
            is_repeated = True
            if body is not None and not isinstance(body, bytes):
                body.rewind()
        try:
            return self._reply(response, also_good)
        except DeployerError as error:
            if method == "DELETE" and is_repeated and error.kind is Kind.UNKNOWN:
                return Reply(_NO_CONTENT, {})  # the request whose answer was lost has done it
            raise

    @staticmethod
    def _is_put_off(response: requests.Response, retries: Retries) -> bool:
        """Tell whether to ask again, after the time that this takes."""
        document = _json_object(response) if response.status_code >= _FIRST_ERROR else None
        seconds = told_seconds(response.status_code, response.headers, document)
        if seconds is not None:
            return retries.pause_as_told(seconds)
        return response.status_code in _GATEWAY_STATUSES and document is None and retries.pause()

    @contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, Any], last_event_id: str, silence_seconds: float
    ) -> Iterator[Iterator[str]]:
        """Open a stream of server-sent events and give its lines as they come.

        Raises:
            NotStreamedError: The server answered, but not with a stream.
            DeployerError: The server's own error, before the first line.
            ServerUnreachableError: The connection fails, or says nothing for silence_seconds.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        url = self._root + path
        with _unreachable(self.url):
            response = self._http.get(
                url,
                params=params,
                headers=headers,
                stream=True,
                timeout=(CONNECT_SECONDS, silence_seconds),
                allow_redirects=False,
            )
        with response:
            self._raise_for_error(response)
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise NotStreamedError
            yield _lines(response, self.url)

    def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        media: Any,
        body: bytes | Upload | None,
        headers: Mapping[str, str],
        hold_seconds: float,
    ) -> requests.Response:
        url = self._root + path
        with _unreachable(self.url):
            return self._http.request(
                method,
                url,
                params=params,
                json=media,
                data=body,
                headers=headers,
                # While a body is sent, it is the first of the two that watches over the socket.
                timeout=(
                    CONNECT_SECONDS if body is None else self.timeout_seconds,
                    self.timeout_seconds + hold_seconds,
                ),
                allow_redirects=False,  # would turn a POST into a GET without a word
            )

    def text(self, path: str) -> str:
        """Read what is no JSON, as text; tried once.

        Raises:
            DeployerError: The server's own error.
            ServerUnreachableError: No answer.
        """
        response = self._send("GET", path, None, None, None, {"Accept": "text/plain"}, 0)
        self._raise_for_error(response)
        return response.text

    def _reply(self, response: requests.Response, also_good: Collection[int]) -> Reply:
        if response.status_code not in also_good:
            self._raise_for_error(response)
        if not response.content:
            return Reply(response.status_code, {})
        document = _json_object(response)
        if document is None:
            kind = response.headers.get("Content-Type", "no content type")
            raise ServerUnreachableError(
                f"cannot use {response.url}: it answered with {kind} instead of a JSON object",
                cause=f"it answered with {kind}",
                hint="is this the address of an ATOLL Deployment Server?",
            )
        return Reply(response.status_code, document)

    @staticmethod
    def _raise_for_error(response: requests.Response) -> None:
        status = response.status_code
        if status < _FIRST_REDIRECT:
            return
        document = _json_object(response) if status >= _FIRST_ERROR else None
        if document is not None and ("detail" in document or "code" in document):
            raise error_from_problem(document)
        reason = response.headers.get("Location", response.reason)
        raise error_from_status(response.url, status, reason or "")


def _server_url(url: str) -> str:
    """Give an address its scheme, and take its last slash."""
    address = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(address)
        is_socket = parts.scheme == "unix" and parts.path and not parts.netloc
        is_host = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        valid = is_socket or is_host
    except ValueError:
        valid = False
    if not valid:
        raise ServerUnreachableError(
            f"cannot use {url!r} as a server's address: it is not like http://HOST:PORT or unix:///PATH",
            cause="not an address",
        )
    return address


def _checked(token: str | None) -> str | None:
    if token is None or not (token := token.strip()):
        return None
    if not (token.isascii() and token.isprintable()):
        raise AuthenticationRequiredError(
            "cannot use the token: it has characters that no header can carry",
            cause="not a token",
            hint="the local server's token is in the file `token` of its state directory",
        )
    return token


def _is_local(url: str) -> bool:
    if url.startswith("unix:"):
        return True
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json_object(response: requests.Response) -> Mapping[str, Any] | None:
    if "json" not in response.headers.get("Content-Type", ""):
        return None
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _lines(response: requests.Response, server: str) -> Iterator[str]:
    with _unreachable(server):
        # None: each chunk as it comes, instead of waiting until some size is full.
        for line in response.iter_lines(chunk_size=None):
            yield line.decode(errors="replace")


@contextmanager
def _unreachable(server: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        reason = _reason(error)
        raise ServerUnreachableError(
            f"cannot reach the server at {server}: {reason}",
            cause=reason,
            hint="is it running there? start one with `atoll-deployer serve`,"
            " or name another with --server",
        ) from error


def _reason(error: requests.RequestException) -> str:
    """Find the operating system's word below the layers that requests puts on top of it."""
    if isinstance(error, requests.Timeout):
        return "it did not answer in time"
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            return below.strerror.lower()
        below = below.__cause__ or below.__context__
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return str(error) or type(error).__name__
