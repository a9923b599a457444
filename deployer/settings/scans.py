"""Who looks into a release before it runs, and what of it is not taken."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from deployer.complaints import unknown_key
from deployer.quantities import Seconds
from deployer.scan_reports import RULES
from deployer.settings.addresses import AbsolutePath
from deployer.settings.sections import Section


class ScanSettings(Section):
    """Who looks into a release before it runs.

    Attributes:
        osv_archive: OSV's archive of advisories for PyPI, a local file; nothing: nobody compares.
        command: An external scanner: it is given the code's directory as its last word, and
            prints ``{"findings": [{"rule", "file", "line", "message", "severity"}]}``.
        seconds: How long each scanner may take.
        block: Rules that keep a release from going live; none: findings are only told.
    """

    osv_archive: AbsolutePath | None = None
    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    seconds: Seconds = 60.0
    block: tuple[str, ...] = ()

    @field_validator("block")
    @classmethod
    def _rules_known(cls, block: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for rule in block:
            if rule not in RULES and not info.data.get("command"):  # which has rules of its own
                raise ValueError(f"{rule!r:.60} {unknown_key(rule, RULES)}")
        return block
