"""Serves, and does not care for SIGTERM."""

import signal

import serving

signal.signal(signal.SIGTERM, signal.SIG_IGN)
serving.serve(serving.healthy)
