"""Wires the apps to the outside: settings, URLs, ASGI, Celery, health. Nobody imports it."""
