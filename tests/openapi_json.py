"""docs/openapi.json: the contract as it is served, kept so that a change of it shows in a diff.

``python -m tests.openapi_json``, or ``make openapi``, writes it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Final

from falcon.testing import TestClient

from tests.wired_apps import TEXT, wired_app

FILE: Final = Path(__file__).parents[1] / "docs" / "openapi.json"


def openapi_json() -> str:
    """Ask the application for its contract, and write it a member a line."""
    with tempfile.TemporaryDirectory() as folder, wired_app(Path(folder)) as (app, _):
        client = TestClient(app, headers={"Authorization": f"Bearer {TEXT}"})
        document = client.simulate_get("/openapi.json").json
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(openapi_json(), encoding="utf-8")
