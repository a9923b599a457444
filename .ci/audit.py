"""Ask whether versions in our lock have known holes, where there is somebody to ask.

pip-audit calls it a success when it could look nothing up at all, so what it looked up is counted.
Exit codes: 0 no known holes, or nobody to ask, which is said; 1 some are known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"
SECONDS = 180


def main() -> int:
    """Print what is known of each dependency in the lock, and how many could be looked up."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    command += ["--progress-spinner", "off", "--format", "json", "--requirement", str(LOCK)]
    try:
        audit = subprocess.run(  # noqa: S603 - a list of our own
            command, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        found = json.loads(audit.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        sys.stdout.write(f"not audited: no answer within {SECONDS} s\n")
        return 0
    except (ValueError, KeyError):
        sys.stdout.write(f"not audited: {audit.stderr.strip().splitlines()[-1:]}\n")
        return 0
    audited = [each for each in found if "skip_reason" not in each]
    bad = [each for each in audited if each["vulns"]]
    for each in bad:
        for hole in each["vulns"]:
            fixed = ", ".join(hole["fix_versions"]) or "nowhere yet"
            sys.stdout.write(f"{each['name']} {each['version']}: {hole['id']}, fixed in {fixed}\n")
    sys.stdout.write(
        f"{len(audited)} of {len(found)} dependencies audited, {len(bad)} with known holes\n"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
