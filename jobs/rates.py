"""How often remotes may be called: by rate, at once, and not too soon after one another.

Source: sessions.md 4.2 (schedule, cool-down), 4.4.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.definitions import Definition
from core.remotes import Remote
from jobs.errors import RemoteCooling, RemoteUnavailable


class Bucket:
    """So many calls in so many seconds: it fills evenly, up to all of them."""

    def __init__(self, calls: float, per_s: float, clock: Callable[[], float]) -> None:
        self.calls, self.per_s, self._clock = calls, per_s, clock
        self._left, self._at = calls, clock()

    def wait_s(self) -> float:
        """Return how long until the next call may be made; 0 when one may be made now."""
        now = self._clock()
        self._left = min(self.calls, self._left + (now - self._at) * self.calls / self.per_s)
        self._at = now
        return 0.0 if self._left >= 1 else (1 - self._left) * self.per_s / self.calls

    def take(self) -> None:
        """Count a call."""
        self._left -= 1


class Rates:
    """What is counted of every remote, and of every caller over all remotes.

    Args:
        calls_per_user: of one caller in a minute.
    """

    def __init__(self, calls_per_user: int, clock: Callable[[], float]) -> None:
        self._calls_per_user, self._clock = calls_per_user, clock
        self._remotes: dict[str, Bucket] = {}
        self._users: dict[str, Bucket] = {}
        self._busy: defaultdict[str, int] = defaultdict(int)
        self._began: dict[str, float] = {}

    @contextmanager
    def call(self, remote: Remote, caller_id: str) -> Iterator[None]:
        """Make room for one call with all its tries. Raises RemoteUnavailable, RemoteCooling."""
        definition = remote.definition
        if self._busy[remote.id] >= definition.concurrent:
            raise RemoteUnavailable("it is answering as many calls as it may")
        left_s = self._began.get(remote.id, float("-inf")) + definition.cool_down_s - self._clock()
        if definition.cool_down_s and left_s > 0:
            raise RemoteCooling(f"it was called a moment ago: wait {left_s:.3g} s", retry_after_s=left_s)
        self.take(remote, caller_id)
        self._began[remote.id] = self._clock()
        self._busy[remote.id] += 1
        try:
            yield
        finally:
            self._busy[remote.id] -= 1
            if not self._busy[remote.id]:
                del self._busy[remote.id]

    def take(self, remote: Remote, caller_id: str) -> None:
        """Count one try. Raises RemoteUnavailable when there were too many, of the remote or of the caller."""
        buckets = (self._of_remote(remote.id, remote.definition), self._of_user(caller_id))
        wait_s = max(bucket.wait_s() for bucket in buckets)
        if wait_s > 0:
            raise RemoteUnavailable(f"it was called too often: wait {wait_s:.3g} s", retry_after_s=wait_s)
        for bucket in buckets:
            bucket.take()

    def _of_remote(self, remote_id: str, definition: Definition) -> Bucket:
        bucket = self._remotes.get(remote_id)
        if bucket is None or (bucket.calls, bucket.per_s) != (definition.calls, definition.per_s):
            bucket = self._remotes[remote_id] = Bucket(definition.calls, definition.per_s, self._clock)
        return bucket

    def _of_user(self, caller_id: str) -> Bucket:
        return self._users.setdefault(caller_id, Bucket(self._calls_per_user, 60, self._clock))
