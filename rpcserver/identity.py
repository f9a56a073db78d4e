"""What one data folder is known by for life: the event epoch, the key that signs cursors, the clock that goes on.

Rows of server_values.
"""

import secrets
from dataclasses import dataclass

from store import Tx, new_id


@dataclass(frozen=True, slots=True)
class Identity:
    """The epoch names this run of events: one restored from a backup gets another."""

    epoch: str
    cursor_key: bytes


def load(tx: Tx) -> Identity:
    """Return the values, making them the first time, and have the steady clock go on where the last server was."""
    clock = tx.one("SELECT value FROM server_values WHERE name = 'clock'")
    if clock is not None:
        now, steady = clock[0].split()
        tx.clock.go_on(int(now), int(steady))
    keep_clock(tx)
    epoch = _value(tx, "epoch", new_id("e_"))
    return Identity(epoch, bytes.fromhex(_value(tx, "cursor_key", secrets.token_hex(32))))


def renew(tx: Tx) -> None:
    """Begin another epoch: what clients remember of the one before cannot be resumed."""
    tx.run("UPDATE server_values SET value = ? WHERE name = 'epoch'", new_id("e_"))


def keep_clock(tx: Tx) -> None:
    """Keep what both clocks say, for the next start to go on from."""
    now, steady = tx.clock.both_ms()
    _put(tx, "clock", f"{now} {steady}")


def probe(tx: Tx) -> None:
    """Write a value, to see that the database takes it."""
    _put(tx, "probed_at", str(tx.clock.now_ms()))


def _put(tx: Tx, name: str, value: str) -> None:
    tx.run(
        "INSERT INTO server_values (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        name,
        value,
    )


def _value(tx: Tx, name: str, fresh: str) -> str:
    tx.run("INSERT INTO server_values (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, fresh)
    row = tx.one("SELECT value FROM server_values WHERE name = ?", name)
    return str(row[0]) if row else fresh
