"""The examples in deploy/: each accepted, and where it can be, used by the program it is for."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.free_ports import free_ports
from tests.package_zips import zip_package
from tests.programs import needed
from tests.servers import RunningServer, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
UPSTREAM = "127.0.0.1:8080"


def adapt(name: str, changes: dict[str, str], folder: Path) -> Path:
    """Write an example with what differs on this machine; each change must be met."""
    text = (DEPLOY / name).read_text()
    for theirs, ours in changes.items():
        assert theirs in text, theirs
        text = text.replace(theirs, ours)
    path = folder / Path(name).name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "changed", [{}, {"#   User=atoll\n#   Group=atoll\n": "User=root\nGroup=root\n"}]
)
def test_systemd_accepts_the_unit(tmp_path: Path, changed: dict[str, str]) -> None:
    analyze = needed("systemd-analyze")
    program = str(Path(sys.executable).with_name("atoll-deployer"))
    changes = {"/opt/atoll-deployer/bin/atoll-deployer": program, **changed}
    unit = adapt("systemd/atoll-deployer.service", changes, tmp_path)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # what it says of other units of this machine is not ours to mend
    assert "atoll-deployer" not in done.stderr


def test_supervisord_starts_with_its_example_and_answers(tmp_path: Path) -> None:
    changes = {
        "/var/lib/atoll-deployer": str(tmp_path),
        "/etc/supervisor/conf.d": str(tmp_path / "conf.d"),
        "/var/log": str(tmp_path),
        "/run/supervisor": str(tmp_path / "supervisor"),
    }
    (tmp_path / "conf.d").mkdir()
    conf = adapt("supervisord.conf", changes, tmp_path)
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(conf)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
        try:
            wait_until((tmp_path / "supervisor.sock").exists)
            ctl = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(conf), "pid"]
            said = subprocess.run(ctl, capture_output=True, text=True, timeout=30, check=True)
            assert said.stdout.strip() == str(process.pid)
        finally:
            process.terminate()


def test_the_programs_config_suits_the_supervisord_example() -> None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    parser.read([DEPLOY / "supervisord.conf", DEPLOY.parent / "conf.d" / "atoll-deployer.conf"])
    assert parser["rpcinterface:agents"]["service"] == "atoll-deployer"
    assert "serve --config" in parser["program:atoll-deployer"]["command"]


# Proxies -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            wait_until(lambda: _listens(port, process))
            yield
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                below = psutil.Process(process.pid).children(recursive=True)
                process.terminate()
                psutil.wait_procs(below, timeout=10)


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "it has ended"
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def nginx(folder: Path, port: int, upstream: str) -> list[str]:
    changes = {"443 ssl": f"127.0.0.1:{port}", "unix:/run/atoll-deployer/api.sock": upstream}
    site = adapt("nginx/atoll-deployer.conf", changes, folder)
    site.write_text(re.sub(r"\n    ssl_.*;", "", site.read_text()))
    return nginx_command(folder, site)


def nginx_command(folder: Path, site: Path) -> list[str]:
    """Say how nginx serves a site from a folder, without any of the machine's own files."""
    main = folder / "main.conf"
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;"
        f" events {{}} http {{ access_log off; {paths} include {site}; }}"
    )
    return [needed("nginx"), "-e", f"{folder}/error.log", "-c", str(main)]


def haproxy(folder: Path, port: int, upstream: str) -> list[str]:
    changes = {":443 ssl crt /etc/ssl/deployer.pem": f"127.0.0.1:{port}", UPSTREAM: upstream}
    return [needed("haproxy"), "-f", str(adapt("haproxy.cfg", changes, folder))]


def caddy(folder: Path, port: int, upstream: str) -> list[str]:
    changes = {"deployer.example.org {": f"http://127.0.0.1:{port} {{", UPSTREAM: upstream}
    path = adapt("Caddyfile", changes, folder)
    path.write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{path.read_text()}")
    homes = [f"XDG_{kind}_HOME={folder}" for kind in ("DATA", "CONFIG")]
    return ["env", *homes, needed("caddy"), "run", "--config", str(path), "--adapter", "caddyfile"]


@pytest.mark.parametrize("proxy", [nginx, haproxy, caddy])
def test_a_package_is_deployed_and_restarted_through_a_proxy(
    server: RunningServer, tmp_path: Path, proxy: Callable[[Path, int, str], list[str]]
) -> None:
    port = free_ports(1)
    command = proxy(tmp_path, port, f"127.0.0.1:{server.port}")
    with running(command, port):
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {server.token}"}
        wait_until(lambda: requests.get(f"{url}/readyz", timeout=10).ok)
        assert requests.get(f"{url}/v1/agents", timeout=10).status_code == 401
        began = time.monotonic()
        response = requests.post(
            f"{url}/v1/deployments?wait=60",
            headers={**headers, "Content-Type": "application/zip"},
            data=zip_package("stdlib_agent", extra_files={"big": os.urandom(3_000_000)}),
            timeout=70,
        )
        assert response.json()["status"] == "succeeded"
        assert time.monotonic() - began < 30
        listed = requests.get(f"{url}/v1/agents", headers=headers, timeout=10).json()["agents"]
        assert listed[0]["host"] == "127.0.0.1"
        # a stream comes through as it is written, and not when some buffer is full
        query = {"follow": "1"}
        with requests.get(
            f"{url}/v1/events", params=query, headers=headers, stream=True, timeout=10
        ) as stream:
            lines = stream.iter_lines(chunk_size=None)
            assert next(lines).startswith(b"retry:")
            server.client.stop("stdlib_agent")
            assert b"agent.stopped" in next(line for line in lines if line.startswith(b"data:"))
        # a form of this very site is taken for one: the name that the browser called comes through
        own = requests.post(
            f"{url}/v1/agents/stdlib_agent/restart",
            headers={**headers, "Origin": url},
            timeout=70,
        )
        assert own.status_code == 200
