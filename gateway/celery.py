"""The Celery application: what serving processes do beside their calls, in processes of its own.

    celery -A gateway worker --pool threads --concurrency 2
    celery -A gateway beat

There are two queues: `housekeeping`, which beat fills, and `background`, for responses that wait to be made.
A worker takes from both, or with `-Q` from one. The jobs are idempotent and carry nothing: lost or run twice,
they do no harm. So messages are acknowledged when they are taken, expire soon, and leave no result.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import django
from celery import Celery
from celery.signals import setup_logging, worker_ready, worker_shutdown
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup()  # before the models are imported

from django.conf import settings  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402

from accounts.changes import Installation  # noqa: E402
from gateway import housekeeping  # noqa: E402
from gateway.workshop import Workshop  # noqa: E402
from proxy import tasks  # noqa: E402

HOUSEKEEPING, BACKGROUND = "housekeeping", "background"
MESSAGE_SECONDS = 5

logger = logging.getLogger(__name__)

app = Celery("tollgate")
workshop = Workshop()


def _queue(name: str) -> Queue:
    """One that gets its own messages alone: without a key of its own it would get the default queue's too."""
    return Queue(name, Exchange(name), routing_key=name)  # type: ignore[no-untyped-call]


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
        "task_default_queue": HOUSEKEEPING,
        "task_queues": [_queue(HOUSEKEEPING), _queue(BACKGROUND)],
        "task_routes": {"gateway.make_responses": {"queue": BACKGROUND}},
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


@app.task(name="gateway.make_responses")  # type: ignore[untyped-decorator]
def make_responses() -> None:
    """A response waits: the loop of this worker claims it, if nobody else has."""
    workshop.wake()


async def tell_of_responses() -> None:
    """Has a worker look for what waits. Off the loop, for the broker may take its time; where it is away,
    workers look by themselves."""
    await asyncio.to_thread(_tell)


def _tell() -> None:
    try:
        make_responses.apply_async(expires=MESSAGE_SECONDS, retry=False)
    except OperationalError as error:
        logger.warning("Celery was not told of a response (%s).", type(error).__name__)


@worker_ready.connect  # type: ignore[untyped-decorator]
def open_workshop(sender: Any, **_: object) -> None:
    """A worker that takes from the queue of responses makes them, from its start on.

    Not one that forks: a copy of a process with threads may hang on what they held at that moment.
    """
    if BACKGROUND not in sender.app.amqp.queues.consume_from:
        return
    if "prefork" in type(sender.pool).__module__:
        logger.error("Responses are made by workers with --pool threads only: this one makes none.")
        return
    workshop.open()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def close_workshop(**_: object) -> None:
    """After the worker's last task."""
    workshop.close()


@setup_logging.connect  # type: ignore[untyped-decorator]
def keep_our_logging(**_: object) -> None:
    """Celery configures no logging of its own where this signal is listened to."""
