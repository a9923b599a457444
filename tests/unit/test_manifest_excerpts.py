"""What of a manifest is shown, and what must not be."""

from __future__ import annotations

import json

from deployer.manifest import parse_manifest
from deployer.manifest.excerpts import HIDDEN, excerpt

MANIFEST = """
[agent]
name = "chart_agent"
description = "Draws charts."
capabilities = ["chat", "tools"]
password = "s3cret"

[dependencies]
packages = ["six @ https://robot:s3cret@index.example/six.whl?token=s3cret"]

[env]
MODE = "s3cret"

[llm]
model = "llama3.1"
max_tokens = 4096
api_keys = ["s3cret"]
dsn = "postgres://u:s3c/ret@h/db"
base_url = "http://robot:s3c@s3cret@localhost:11434/v1"
url = "https://api.example/?api_key=s3cret"
pwd = "s3cret"

[mcp_servers.charts]
command = "python -m charts --token s3cret"
args = ["-m", "charts", "--api-key", "s3cret", "--header", "Authorization: Bearer s3cret"]
env = { CHARTS_MODE = "s3cret" }
enabled = true

[mcp_servers.maps]
command = "API_KEY=s3cret maps"
args = ["-e", "TOKEN=s3cret"]
headers = [{ name = "Authorization", value = "Bearer s3cret" }]

[sub_agents.pilot]
url = "http://localhost:8199"

[of_a_later_server]
password = "s3cret"
"""


def test_what_the_author_wrote_is_shown_without_what_may_be_a_secret() -> None:
    shown = excerpt(parse_manifest(MANIFEST.encode()))

    assert "s3c" not in json.dumps(shown)
    assert shown == {
        "agent": {
            "name": "chart_agent",
            "description": "Draws charts.",
            "capabilities": ["chat", "tools"],
        },
        "dependencies": {"packages": [f"six @ https://{HIDDEN}@index.example/six.whl?{HIDDEN}"]},
        "llm": {
            "model": "llama3.1",
            "max_tokens": 4096,
            "api_keys": [HIDDEN],
            "dsn": HIDDEN,
            "base_url": f"http://{HIDDEN}@localhost:11434/v1",
            "url": f"https://api.example/?{HIDDEN}",
            "pwd": HIDDEN,
        },
        "mcp_servers": {
            "charts": {
                "command": "python",
                "args": [HIDDEN] * 6,
                "env": {"CHARTS_MODE": HIDDEN},
                "enabled": True,
            },
            "maps": {
                "command": HIDDEN,
                "args": [HIDDEN] * 2,
                "headers": [{"name": "Authorization", "value": HIDDEN}],
            },
        },
        "sub_agents": {"pilot": {"url": "http://localhost:8199"}},
    }
