"""Knows who may call and how much: tenants, members, security keys, API keys."""
