"""Where rows live: transactions on SQLite, the schema, ids. Knows no table's meaning."""

from store.errors import (
    BackupError,
    CorruptStore,
    NewerStore,
    NoDescriptors,
    OlderStore,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreUnwritable,
    named,
)
from store.ids import new_id, now_ms
from store.sqlite import DATABASE, LOCK, Store
from store.tx import Row, Tx

__all__ = [
    "DATABASE",
    "LOCK",
    "BackupError",
    "CorruptStore",
    "NewerStore",
    "NoDescriptors",
    "OlderStore",
    "Row",
    "Store",
    "StoreClosed",
    "StoreError",
    "StoreFailed",
    "StoreFull",
    "StoreLocked",
    "StoreUnwritable",
    "Tx",
    "named",
    "new_id",
    "now_ms",
]
