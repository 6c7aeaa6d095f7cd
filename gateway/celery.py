"""The Celery application: the same housekeeping as the serving processes', in processes of its own.

    celery -A gateway worker --pool threads --concurrency 2
    celery -A gateway beat

Its one job is idempotent and carries nothing: lost or run twice, it does no harm. So messages are
acknowledged when they are taken, expire before the next of their kind is sent, and leave no result.
"""

from __future__ import annotations

import os
from typing import Any

import django
from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup()  # before the models are imported

from django.conf import settings  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402

from accounts.changes import Installation  # noqa: E402
from gateway import housekeeping  # noqa: E402
from proxy import tasks  # noqa: E402

app = Celery("tollgate")


@app.add_defaults  # type: ignore[untyped-decorator]
def configuration() -> dict[str, Any]:
    """Asked for once, when it is first needed: it takes the database to know the installation's id."""
    if settings.REDIS_URL is None:
        raise ImproperlyConfigured("Celery needs REDIS_URL; without it the web processes keep house.")
    return {
        "broker_url": settings.REDIS_URL,
        "broker_transport_options": {
            "global_keyprefix": f"tollgate:{Installation.current().id}:celery:",
            "visibility_timeout": 600,
            "socket_connect_timeout": 5,
            "health_check_interval": 25,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
        "task_ignore_result": True,
        "task_default_queue": "housekeeping",
        "worker_prefetch_multiplier": 1,
        "timezone": "UTC",
        "beat_scheduler": "celery.beat:Scheduler",  # in memory: the job is due at once after a restart
        "beat_schedule": {
            "housekeeping": {
                "task": "gateway.housekeeping",
                "schedule": housekeeping.INTERVAL_SECONDS,
                "options": {"expires": housekeeping.INTERVAL_SECONDS},
            }
        },
    }


@app.task(name="gateway.housekeeping")  # type: ignore[untyped-decorator]
def housekeep() -> None:
    """That it ran at all is noted first: while it is, serving processes step back."""
    housekeeping.celery_was_here()
    tasks.housekeeping()


@setup_logging.connect  # type: ignore[untyped-decorator]
def keep_our_logging(**_: object) -> None:
    """Celery configures no logging of its own where this signal is listened to."""
