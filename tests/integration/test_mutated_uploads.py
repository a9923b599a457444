"""Archives full of lies, sent to a real server: refused in words, and nothing stays of them."""

from __future__ import annotations

from typing import Final

import requests
from hypothesis import HealthCheck, given, settings

from tests.refusals import packages_of, send, unharmed
from tests.servers import RunningServer
from tests.zip_mutations import mutated_zips

EXAMPLES: Final = 100


def test_no_lie_in_an_upload_breaks_the_server(server: RunningServer) -> None:
    kept = packages_of(server)
    taken: set[str] = set()
    statuses: set[int] = set()
    session = requests.Session()
    session.headers.update(
        {"Authorization": f"Bearer {server.token}", "Content-Type": "application/zip"}
    )

    @given(data=mutated_zips())
    @settings(
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=EXAMPLES,
        suppress_health_check=list(HealthCheck),
    )
    def upload(data: bytes) -> None:
        answer = session.post(f"{server.url}/v1/packages", data=data, timeout=20)
        statuses.add(answer.status_code)
        assert answer.status_code in {200, 201, 422}, answer.text
        if answer.status_code == 422:
            assert answer.json()["errors"]
        else:
            taken.add(f"{answer.json()['sha256']}.zip")

    with unharmed(server):
        upload()
        session.close()

    assert statuses >= {201, 422}
    assert packages_of(server) - kept <= taken
    assert send(server, b"").status_code == 422  # it still answers
