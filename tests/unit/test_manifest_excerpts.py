"""What of a manifest is shown, and what must not be."""

from __future__ import annotations

from deployer.manifest import parse_manifest
from deployer.manifest.excerpts import HIDDEN, excerpt

MANIFEST = """
[agent]
name = "chart_agent"
description = "Draws charts."
capabilities = ["chat", "tools"]

[dependencies]
packages = ["six @ https://robot:s3cret@index.example/six.whl"]

[env]
MODE = "s3cret"

[llm]
model = "llama3.1"
max_tokens = 4096
api_keys = ["s3cret"]
base_url = "http://robot:s3cret@localhost:11434/v1"

[mcp_servers.charts]
command = "python"
args = ["-m", "charts", "--api-key", "s3cret", "--token=s3cret", "--verbose"]
env = { CHARTS_MODE = "s3cret" }

[mcp_servers.maps]
headers = { Authorization = "Bearer s3cret" }

[sub_agents.pilot]
url = "http://localhost:8199"
auth = { password = "s3cret", user = "robot" }

[of_a_later_server]
password = "s3cret"
"""


def test_what_the_author_wrote_is_shown_without_what_looks_like_a_secret() -> None:
    shown = excerpt(parse_manifest(MANIFEST.encode()))

    assert "s3cret" not in str(shown)
    assert shown == {
        "agent": {
            "name": "chart_agent",
            "description": "Draws charts.",
            "capabilities": ["chat", "tools"],
        },
        "dependencies": {"packages": [f"six @ https://{HIDDEN}@index.example/six.whl"]},
        "llm": {
            "model": "llama3.1",
            "max_tokens": 4096,
            "api_keys": [HIDDEN],
            "base_url": f"http://{HIDDEN}@localhost:11434/v1",
        },
        "mcp_servers": {
            "charts": {
                "command": "python",
                "args": ["-m", "charts", "--api-key", HIDDEN, f"--token={HIDDEN}", "--verbose"],
                "env": {"CHARTS_MODE": HIDDEN},
            },
            "maps": {"headers": {"Authorization": HIDDEN}},
        },
        "sub_agents": {
            "pilot": {
                "url": "http://localhost:8199",
                "auth": {"password": HIDDEN, "user": "robot"},
            }
        },
    }
