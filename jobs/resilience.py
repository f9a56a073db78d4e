"""What goes on when something fails: one job that breaks does not end the others, and writes wait for a full disk."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from store import Store, StoreError, StoreFailed, StoreFull, Tx, new_id

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


LONGEST_BACKOFF_S = 24 * 3600.0


def backoff_s(first_s: float, failures: int, jitter: float = 0.2) -> float:
    """Return how long to wait after so many failures: doubled each time, up to a day, give or take a share of it."""
    doublings = min(failures - 1, 64)  # more come to a day all the same, and at last to no number
    return min(first_s * 2.0**doublings, LONGEST_BACKOFF_S) * random.uniform(1 - jitter, 1 + jitter)  # noqa: S311


FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 5.0


async def at_last(store: Store, fn: Callable[[Tx], T]) -> T:
    """Write as soon as that can be. Raises StoreFailed when the store is broken, StoreClosed, or what `fn` raises."""
    return await again_until_stored(store, lambda: store.write(fn))


async def again_until_stored(store: Store, write: Callable[[], Awaitable[T]]) -> T:
    """Do something that writes, again and again while the disk does not take it; see `at_last`."""
    pause_s = FIRST_RETRY_S
    while True:
        try:
            return await write()
        except StoreFull:
            pass
        except StoreFailed:
            if store.is_broken:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_RETRY_S)
