"""Answers every request with HTTP 500."""

import serving

serving.serve(lambda path: (500, {"status": "broken"}))
