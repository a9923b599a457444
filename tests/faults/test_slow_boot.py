"""One agent that takes long to come up at the server's start keeps nobody else down."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.package_zips import zip_package
from tests.servers import RunningServer, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

MOODY = """
import os, sys, time
import serving

data = os.environ["ATOLL_AGENT_DATA_DIR"]
if os.path.exists(os.path.join(data, "broken")):
    sys.exit(1)
while os.path.exists(os.path.join(data, "slow")):
    time.sleep(0.1)
serving.serve(lambda path: (200, {"status": "healthy"}))
"""


def test_an_agent_that_hangs_at_boot_keeps_no_other_from_being_tried_again(
    make_server: Callable[..., RunningServer],
) -> None:
    server = make_server()
    for name in ("hangs", "mended"):
        package = zip_package(
            "stdlib_agent",
            name=name,
            extra_files={"main.py": MOODY},
            replace={"start_seconds = 20": "start_seconds = 90"},
        )
        server.client.deploy(package)
    server.stop()
    slow = server.state.agent_data("hangs") / "slow"
    broken = server.state.agent_data("mended") / "broken"
    slow.touch()
    broken.touch()
    server.start()
    wait_until(lambda: server.client.agent("mended").status == "failed", 30, server.describe())

    broken.unlink()

    wait_until(lambda: server.client.agent("mended").status == "running", 60, server.describe())
    assert server.client.agent("hangs").status == "starting"
    slow.unlink()
    wait_until(lambda: server.client.agent("hangs").status == "running", 30)
