"""Behaves like ATOLL's runner, as far as a deployer can tell."""

__version__ = "2.0.1"
