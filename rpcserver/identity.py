"""What one data folder is known by for life: the event epoch and the key that signs cursors. Rows of server_values."""

import secrets
from dataclasses import dataclass

from store import Tx, new_id, now_ms


@dataclass(frozen=True, slots=True)
class Identity:
    """The epoch names this run of events: one restored from a backup gets another."""

    epoch: str
    cursor_key: bytes


def load(tx: Tx) -> Identity:
    """Return the values, making them the first time."""
    epoch = _value(tx, "epoch", new_id("e_"))
    return Identity(epoch, bytes.fromhex(_value(tx, "cursor_key", secrets.token_hex(32))))


def renew(tx: Tx) -> None:
    """Begin another epoch: what clients remember of the one before cannot be resumed."""
    tx.run("UPDATE server_values SET value = ? WHERE name = 'epoch'", new_id("e_"))


def probe(tx: Tx) -> None:
    """Write a value, to see that the database takes it."""
    tx.run(
        "INSERT INTO server_values (name, value) VALUES ('probed_at', ?) ON CONFLICT (name) DO UPDATE SET value = ?",
        str(now_ms()),
        str(now_ms()),
    )


def _value(tx: Tx, name: str, fresh: str) -> str:
    tx.run("INSERT INTO server_values (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, fresh)
    row = tx.one("SELECT value FROM server_values WHERE name = ?", name)
    return str(row[0]) if row else fresh
