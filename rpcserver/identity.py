"""What one data folder is known by for life: the event epoch, the key that signs cursors, the clock that goes on.

Rows of server_values.
"""

import secrets
from dataclasses import dataclass

from store import Tx, new_id


@dataclass(frozen=True, slots=True)
class Identity:
    """The epoch names this run of events: one restored from a backup gets another.

    `clock` is what the clocks of the last server said when it ended, the wall clock and the steady scale.
    """

    epoch: str
    cursor_key: bytes
    clock: tuple[int, int]


def load(tx: Tx) -> Identity:
    """Return the values, making them the first time."""
    epoch = _value(tx, "epoch", new_id("e_"))
    cursor_key = bytes.fromhex(_value(tx, "cursor_key", secrets.token_hex(32)))
    now, steady = _value(tx, "clock", "{} {}".format(*tx.clock.both_ms())).split()
    return Identity(epoch, cursor_key, (int(now), int(steady)))


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
