"""People with a browser, as far as a server sees them."""

from __future__ import annotations

from typing import Any

import requests

from deployer.api.callers import PROOF
from tests.contracts import Api


class Visitor:
    """Somebody with a browser: a cookie, and the proof that its page keeps."""

    def __init__(self, api: Api, key: str) -> None:
        self.api = api
        self.session = requests.Session()
        self.session.trust_env = False
        form = {"token": key}
        answer = self.session.post(
            f"{api.server.url}/login", data=form, timeout=10, allow_redirects=False
        )
        assert answer.status_code == 303
        self.proof = answer.headers["Location"].partition("#proof=")[2]

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Ask by the session alone."""
        answer = self.session.request(
            method, f"{self.api.server.url}{path}", timeout=70, allow_redirects=False, **options
        )
        self.api.contract.check(answer)
        return answer

    def act(self, method: str, path: str, **options: Any) -> requests.Response:
        """Ask as the page does."""
        self.session.headers[PROOF] = self.proof
        answer = self.ask(method, path, **options)
        del self.session.headers[PROOF]
        return answer
