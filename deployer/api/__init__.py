"""The REST API: one file a noun, each resource one call and its answer as HTTP."""
