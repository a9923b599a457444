"""Serves on a port of its own choice, whatever PORT says."""

import serving

listener = serving.listen(port=0)
print("listening on", listener.getsockname()[1], flush=True)
serving.serve(serving.healthy, listener)
