"""The audit: who did what. One entry for each act, whether it went well or not."""

from __future__ import annotations

import logging
import sqlite3
from http import HTTPStatus
from typing import Any, Final

import falcon

from deployer.api import documents, inputs
from deployer.api.accesses import address_of
from deployer.api.answers import write
from deployer.api.operations import PAGE, operation
from deployer.api.permissions import Table
from deployer.api.refusals import Refusals
from deployer.audits import Entry
from deployer.keys import Caller, Scope
from deployer.store import Store

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_LONGEST: Final = 200
_log: Final = logging.getLogger(__name__)


class AuditTrail:
    """Middleware around every resource that writes down what was done, once it is known how.

    Resources say in ``req.context`` which ``agent`` and which ``target`` an act concerns, and by
    ``is_act`` that a request acts although its method or its scope says otherwise. One that is
    answered as it was before, with its ``Idempotency-Key``, acts no second time.
    """

    def __init__(self, store: Store, permitted: Table, refusals: Refusals) -> None:
        """Write into store.

        Args:
            store: Where the audit lies.
            permitted: The operation behind each method and address.
            refusals: Counts those who were not let in.
        """
        self._rows = store.audit
        self._permitted = permitted
        self._refusals = refusals

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: object
    ) -> None:
        """Write an act or a refusal down."""
        status = resp.status_code
        caller: Caller | None = getattr(req.context, "caller", None)
        # 429 to somebody who is known only means that the server has enough to do.
        is_refused = status in _REFUSED or (
            status == HTTPStatus.TOO_MANY_REQUESTS and caller is None
        )
        if is_refused:
            self._refusals.note(_entry(req, status, caller))
        elif self._is_act(req):
            try:
                self._rows.add(_entry(req, status, caller))
            except sqlite3.Error:
                # What was done is done: an error would only hide how.
                _log.exception("cannot write down %s", _entry(req, status, caller))

    def _is_act(self, req: falcon.Request) -> bool:
        if getattr(req.context, "is_replay", False):
            return False
        if getattr(req.context, "is_act", False):
            return True
        described = self._permitted.get((req.method, req.uri_template or ""))
        asks_for_more = described is not None and described.scope not in {None, Scope.READ}
        return req.method not in _SAFE_METHODS and asks_for_more


class Audit:
    """What was written down, at ``/v1/audit``."""

    def __init__(self, store: Store, refusals: Refusals) -> None:
        """Read out of store, with what refusals has counted until now."""
        self._rows = store.audit
        self._refusals = refusals

    @operation(
        "Read the audit, the newest first",
        {HTTPStatus.OK: documents.AuditList},
        scope=Scope.ADMIN,
        query={
            **PAGE,
            "agent": "Only what concerns this agent",
            "who": "Only what they did, such as key:ID",
        },
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """List entries, a page at a time."""
        limit = inputs.page_limit(req)
        self._refusals.flush()
        rows = self._rows.before(
            inputs.cursor(req),
            limit=limit + 1,
            agent=req.get_param("agent") or None,
            who=req.get_param("who") or None,
        )
        page, more = inputs.cut_page(rows, limit, lambda each: str(each.id))
        items = [documents.audit_entry(each) for each in page]
        write(resp, documents.AuditList(entries=items, count=len(items), next=more))


def _entry(req: falcon.Request, status: int, caller: Caller | None) -> Entry:
    context: Any = req.context
    # What nobody routed is what whoever sent it wrote.
    address = address_of(req.uri_template) if req.uri_template else req.path[:_LONGEST]
    return Entry(
        who=caller.who if caller else "",
        name=caller.name if caller else "",
        source=req.remote_addr or "",
        operation=f"{req.method[:20]} {address}",
        agent=getattr(context, "agent", "")[:_LONGEST],
        target=getattr(context, "target", "")[:_LONGEST],
        status=status,
        request_id=context.request_id,
    )
