"""Listens only after START_SECONDS."""

import os
import time

import serving

time.sleep(float(os.environ["START_SECONDS"]))
serving.serve(serving.healthy)
