"""Requests that never become one: what waitress refuses by itself, as problem documents too."""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from deployer.api.problems import problem_document, reason_phrase
from deployer.errors import BadRequestError, DeployerError, PackageTooLargeError


class RefusalTask(ErrorTask):
    """Answers a request whose head or size waitress does not take.

    It was not routed and nobody looked at its token: the answer says what is wrong, and no more.

    Attributes:
        upload_bytes: The largest package that is taken.
    """

    upload_bytes: int

    def execute(self) -> None:
        """Write the answer and close the connection: its rest cannot be understood."""
        refused: Any = self.request.error  # type: ignore[attr-defined]  # the stubs miss it
        error = self._error(refused.code, refused.body)
        request_id = uuid.uuid4().hex
        document = {**problem_document(error, request_id), "status": int(refused.code)}
        body = json.dumps(document).encode()
        self.status = f"{refused.code} {reason_phrase(error)}"
        self.response_headers = [
            ("Content-Type", "application/problem+json"),
            ("X-Request-Id", request_id),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)

    def _error(self, status: int, words: str) -> DeployerError:
        if status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return BadRequestError(f"cannot read the request: {words}", cause="unreadable request")
        return PackageTooLargeError(
            f"cannot take the body: a package may have {self.upload_bytes} bytes",
            cause=f"package larger than {self.upload_bytes} bytes",
            hint="leave data and environments out of the package, or raise limits.upload_bytes",
        )


def refuse_with_problems(listener: Any, upload_bytes: int) -> None:
    """Have a listener of waitress's answer what it refuses by itself with problem documents.

    Args:
        listener: What `waitress.server.create_server` made: one server, or, for a host with several
            addresses, what knows them all.
        upload_bytes: The largest package that is taken, for the words.
    """
    task = type("RefusalTask", (RefusalTask,), {"upload_bytes": upload_bytes})
    channel = type("Channel", (HTTPChannel,), {"error_task_class": task})
    for each in (listener, *getattr(listener, "map", {}).values()):
        if hasattr(each, "channel_class"):
            each.channel_class = channel
