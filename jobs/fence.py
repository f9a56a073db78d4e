"""The runner's door for what it does by itself: one job, schedule or callback that breaks does not end the others."""

from collections.abc import Awaitable
from typing import Any, TypeVar

import structlog

from store import StoreError, new_id

log = structlog.get_logger("jobs")

T = TypeVar("T")


async def fenced(event: str, work: Awaitable[T], **facts: Any) -> T | None:
    """Return what some work returns; what nobody foresaw is logged as `event`, and None. Raises StoreError."""
    try:
        return await work
    except StoreError:
        raise
    except Exception as error:
        log.error(event, ref=new_id("r_"), exc_info=error, **facts)
        return None
