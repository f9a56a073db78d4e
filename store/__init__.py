"""Where rows live: transactions on SQLite, the schema, ids, the clock. Knows no table's meaning."""

from store.clock import STEP_MS, Clock, pause
from store.disk import EFFECTS, Effects, has_room, make_folder, note_outside, sync_folder
from store.errors import (
    BackupError,
    CorruptStore,
    NewerStore,
    NoDescriptors,
    OlderStore,
    PoolBusy,
    PoolError,
    PoolLate,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreUnwritable,
    named,
)
from store.ids import new_id
from store.kept import Told
from store.pools import Places, Pool, Pools
from store.roundrobin import OWNER, RoundRobin
from store.sqlite import DATABASE, LOCK, Store
from store.tx import Row, Tx

__all__ = [
    "DATABASE",
    "EFFECTS",
    "LOCK",
    "STEP_MS",
    "BackupError",
    "Clock",
    "CorruptStore",
    "Effects",
    "NewerStore",
    "NoDescriptors",
    "OWNER",
    "OlderStore",
    "Places",
    "Pool",
    "PoolBusy",
    "PoolError",
    "PoolLate",
    "Pools",
    "RoundRobin",
    "Row",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreLocked",
    "StoreUnwritable",
    "Told",
    "Tx",
    "has_room",
    "make_folder",
    "named",
    "new_id",
    "note_outside",
    "pause",
    "sync_folder",
]
