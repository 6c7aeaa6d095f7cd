"""The management API, below /api/: what all of it has in common, and what accounts has to manage.

`resource.py` is the shape of every endpoint; permissions are one table (accounts/permissions.py).
"""
