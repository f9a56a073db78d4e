"""What one data folder is known by for life: the key that signs cursors, and the clock that goes on.

Rows of server_values.
"""

import secrets
from dataclasses import dataclass

from store import Tx, ids


@dataclass(frozen=True, slots=True)
class Identity:
    """`clock` is what the clocks of the last server said when it ended: the wall clock, the steady scale, its ids."""

    cursor_key: bytes
    clock: tuple[int, int, int]


def load(tx: Tx) -> Identity:
    """Return the values, making them the first time."""
    cursor_key = bytes.fromhex(_value(tx, "cursor_key", secrets.token_hex(32)))
    now, steady, newest = _value(tx, "clock", _clock(tx)).split()
    return Identity(cursor_key, (int(now), int(steady), int(newest)))


def note_stop(tx: Tx) -> None:
    """Keep that the server ended by itself."""
    _put(tx, "stopped", "1")


def was_stopped(tx: Tx) -> bool:
    """Tell whether the last server ended by itself, rather than being killed, once: the next one is told no."""
    return tx.run("DELETE FROM server_values WHERE name = 'stopped'") == 1


def keep_clock(tx: Tx) -> None:
    """Keep what the clocks say, for the next start to go on from."""
    _put(tx, "clock", _clock(tx))


def probe(tx: Tx) -> None:
    """Write a value, to see that the database takes it."""
    _put(tx, "probed_at", str(tx.clock.now_ms()))


def _clock(tx: Tx) -> str:
    now, steady = tx.clock.both_ms()
    return f"{now} {steady} {ids.newest_ms()}"


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
