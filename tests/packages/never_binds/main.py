"""Lives for ever and listens nowhere."""

import signal

print("waiting for the tide", flush=True)
signal.pause()
