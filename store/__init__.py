"""Where rows live: transactions on SQLite, the schema, ids. Knows no table's meaning."""

from store.errors import (
    BackupError,
    CorruptStore,
    NewerStore,
    OlderStore,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLocked,
    StoreUnwritable,
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
    "new_id",
    "now_ms",
]
