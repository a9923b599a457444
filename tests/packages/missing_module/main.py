"""Imports a module that is in no requirement."""

import seaweed_that_nobody_installed
