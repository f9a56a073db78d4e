"""How far a job is, and what it says on the way: told at most ten times a second, never backwards."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from jobs import rows
from store import Store, Tx, now_ms

OnProgress = Callable[[float, float | None, str], None]
PROGRESS_EVERY_S = 0.1
LINES_EVERY_S = 0.25


class Progress:
    """The progress of one run: the newest report waits for its turn, and replaces the one before."""

    def __init__(self, store: Store, job_id: str, tell: Callable[[Tx, dict[str, Any]], None]) -> None:
        self._store = store
        self._job_id = job_id
        self._tell = tell
        self._furthest = 0.0
        self._told_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.value: dict[str, Any] | None = None

    def report(self, done: float, total: float | None, message: str) -> bool:
        """Take a report; one that goes backwards is passed over (False)."""
        position = done / total if total else done
        if position < self._furthest:
            return False
        self._furthest = position
        self.value = {
            "done": done,
            "total": total,
            "fraction": round(min(position, 1.0), 4) if total else None,
            "message": message,
        }
        if self._timer is None:
            wait_s = self._told_at + PROGRESS_EVERY_S - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, wait_s), self._store_and_tell)
        return True

    def end(self) -> str | None:
        """Tell no more; return the last report as JSON for the row."""
        if self._timer is not None:
            self._timer.cancel()
        return None if self.value is None else json.dumps(self.value)

    def _store_and_tell(self) -> None:
        self._timer = None
        self._told_at = time.monotonic()
        value = self.value or {}

        def keep(tx: Tx) -> None:
            rows.set_progress(tx, self._job_id, json.dumps(value))
            self._tell(tx, value)

        self._store.write(keep).add_done_callback(_ignore)


class Lines:
    """What one run says: kept in batches, the newest `keep` lines of each job."""

    def __init__(self, store: Store, job_id: str, keep: int, on_stored: Callable[[], None]) -> None:
        self._store = store
        self._job_id = job_id
        self._keep = keep
        self._on_stored = on_stored
        self._number: int | None = None
        self._unstored: list[tuple[int, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        """Add a line."""
        self._unstored.append((now_ms(), text))
        del self._unstored[: -self._keep]
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINES_EVERY_S, self._flush)

    def flush(self, tx: Tx) -> None:
        """Store what is not stored yet, in this transaction."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._unstored:
            return
        unstored, self._unstored = self._unstored, []
        if self._number is None:
            self._number = rows.last_line(tx, self._job_id)
        numbered = [(self._number + index, at, text) for index, (at, text) in enumerate(unstored, 1)]
        self._number += len(numbered)
        rows.add_lines(tx, self._job_id, numbered, self._keep)
        tx.after_commit(self._on_stored)

    def _flush(self) -> None:
        self._timer = None
        self._store.write(self.flush).add_done_callback(_ignore)


def _ignore(stored: asyncio.Future[None]) -> None:
    # A report that could not be stored is no reason to fail the job; whatever is wrong shows at its end.
    if not stored.cancelled():
        stored.exception()
