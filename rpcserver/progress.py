"""Progress of one call: monotone, thinned out, and over before the response. Source: protocol.md 3."""

import asyncio
from collections.abc import Callable
from typing import Any

from rpcserver.jsonrpc import encode_notification


class Progress:
    """Sends `$/progress` for one token: the first report at once, then the latest of each interval.

    Args:
        token: as the caller gave it.
        interval_s: seconds between two notifications at least.
    """

    def __init__(self, token: str | int, interval_s: float, send: Callable[[bytes], None]) -> None:
        self._token = token
        self._interval_s = interval_s
        self._send = send
        self._done = float("-inf")
        self._percentage = 0.0
        self._latest: dict[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def report(self, done: float, total: float | None, message: str) -> None:
        """Take a report; one that goes back is left out, and so is one that comes after the end."""
        if done < self._done or self._is_over:
            return
        self._done = done
        value: dict[str, Any] = {"kind": "report", "done": done, "total": total, "message": message}
        if total:
            # A total that grows must not make the bar go back.
            self._percentage = max(self._percentage, min(100.0, round(100 * done / total, 1)))
            value["percentage"] = self._percentage
        self._latest = value
        if self._timer is None:
            self._flush()

    def end(self) -> None:
        """Send what is left: the response comes next, and nothing after it."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._write()

    def _flush(self) -> None:
        self._timer = None
        if self._latest is not None:
            self._write()
            self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._flush)

    def _write(self) -> None:
        value, self._latest = self._latest, None
        if value is not None:
            self._send(encode_notification("$/progress", {"token": self._token, "value": value}))
