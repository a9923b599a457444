"""The ATOLL Deployment Server: installs, configures, supervises and updates agents."""

from typing import Final

__version__: Final = "0.1.0"
"""As pyproject.toml has it too; to ask importlib.metadata takes as long as `--help` takes else."""
