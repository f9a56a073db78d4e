"""Writes that are not given up while the disk is full."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from store import Store, StoreFull, Tx

T = TypeVar("T")

STORE_FULL_RETRY_S = 1.0


async def at_last(store: Store, fn: Callable[[Tx], T]) -> T:
    """Write as soon as there is room. Raises StoreFailed, StoreClosed or what `fn` raises."""
    while True:
        try:
            return await store.write(fn)
        except StoreFull:
            await asyncio.sleep(STORE_FULL_RETRY_S)
