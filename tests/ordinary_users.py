"""Somebody who is not root, with a home and a Python of their own that has our packages."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

UID = 64123  # nobody's, and none that agents are given
SYSTEM_PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True, slots=True)
class OrdinaryUser:
    """A user without privileges.

    Attributes:
        home: An open directory outside pytest's own, which only root can enter.
        python: Of an environment in which the server can run.
        uid: User and group.
    """

    home: Path
    python: Path
    uid: int = UID

    @property
    def options(self) -> dict[str, Any]:
        """What `subprocess.Popen` needs to start something as this user."""
        variables = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8"}
        return {"user": self.uid, "group": self.uid, "extra_groups": (), "env": variables}


@contextmanager
def ordinary_user() -> Iterator[OrdinaryUser]:
    """Make such a user while the block runs, or skip the test with the reason."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    site = Path(pytest.__file__).parent.parent
    repository = Path(__file__).parent.parent
    for needed in (site, repository):
        closed = [str(path) for path in (needed, *needed.parents) if not path.stat().st_mode & 1]
        if closed:
            pytest.skip(f"an ordinary user cannot read {needed}: {closed[-1]} is closed")
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if subprocess.run([SYSTEM_PYTHON, "-c", version], check=False).returncode:
        pytest.skip(f"{SYSTEM_PYTHON} is not of the version that our packages are installed for")
    with tempfile.TemporaryDirectory(prefix="ordinary-", dir="/tmp") as name:
        home = Path(name)
        home.chmod(0o755)
        venv = home / "venv"
        command = [SYSTEM_PYTHON, "-m", "venv", "--without-pip", str(venv)]
        subprocess.run(command, check=True, timeout=60)
        own_site = next(venv.glob("lib/*/site-packages"))
        (own_site / "packages.pth").write_text(f"{repository}\n{site}\n")
        (venv / "bin" / "uv").symlink_to(Path(sys.executable).parent / "uv")
        os.chown(home, UID, UID)
        yield OrdinaryUser(home, venv / "bin" / "python")
