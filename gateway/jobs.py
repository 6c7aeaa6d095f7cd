"""What runs beside the calls for as long as its process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

_RESTART_SECONDS = 1

logger = logging.getLogger(__name__)


async def keep_running(job: Callable[[], Awaitable[None]]) -> None:
    """An outer edge: a job that fails is logged and begun again, never missed in silence."""
    while True:
        try:
            await job()
        except Exception:
            logger.exception("%s failed; it is begun again", job.__qualname__)
        await asyncio.sleep(_RESTART_SECONDS)
