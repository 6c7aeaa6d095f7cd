"""Answers one call and settles it: the ASGI data plane, routing, upstream dialects, usage."""
