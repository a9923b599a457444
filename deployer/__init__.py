"""The ATOLL Deployment Server: installs, configures, supervises and updates agents."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("atoll-deployment-server")
except PackageNotFoundError:  # pragma: no cover - a source tree that was never installed
    __version__ = "0+unknown"
