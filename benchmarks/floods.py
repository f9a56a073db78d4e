"""What one user can pour over a server: twelve kinds of flood, and the process that pours one of them.

    python -m benchmarks.floods KIND URL CREDENTIAL     (stopped by closing its standard input)

Every connection keeps its window of calls in flight and reads every answer, whatever it says: a flood is no client
that can be cut off for not reading.
"""

import asyncio
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

from benchmarks.load import Connection, LoadError, masked
from rpcserver.client import CallError, Client

CONNECTIONS = 8
CROWD = 5000  # tokens in the set whose listing is filtered
ACTIONS = 30_000
NICENESS = 19


def _call(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def _batch(method: str, count: int, **params: Any) -> bytes:
    return b"[%b]" % b",".join([_call(method, **params)] * count)


def _actions(count: int) -> str:
    return "\n".join(f"!!play.echo content:'word {number}'" for number in range(count))


def listings(session_id: str) -> list[bytes]:
    """Listings, the call that people make most."""
    return [_call("session.ls", session_id=session_id)]


def local_jobs(session_id: str) -> list[bytes]:
    """Jobs that leave a row, and walks."""
    made = _call("core.token.create", type="file", name="one more")
    walks = [_call("session.cd", session_id=session_id, **way) for way in ({"path": "files"}, {"to": "home"})]
    return [made, *walks, made]


def frames(session_id: str) -> list[bytes]:
    """Frames of a megabyte: one long text, one of half a million numbers."""
    long = _call("server.identify", session_id=session_id, client="x" * (1024 * 1024 - 200))
    return [long, _call("server.ping", numbers=[7] * 340_000)]


def playbooks(session_id: str) -> list[bytes]:
    """Playbooks of 30,000 actions, to be looked at and to be kept."""
    looked_at = _call("session.play", session_id=session_id, text=_actions(ACTIONS), dry_run=True)
    return [_call("session.playbook_add", session_id=session_id, text=_actions(ACTIONS)), looked_at]


def unknown_methods(session_id: str) -> list[bytes]:
    """Batches of calls of what there is not."""
    return [_batch("sesion.lists", 100), _batch("core.tokens.creates", 100, session_id=session_id)]


def unknown_jobs(session_id: str) -> list[bytes]:
    """Runs and schedules of job functions that there are not."""
    run = _call("job.run", session_id=session_id, function="bookmark.ad")
    return [run, _call("job.schedule", session_id=session_id, function="git.clones", every_s=60)]


def waits(session_id: str) -> list[bytes]:
    """Plays that wait for a day."""
    text = "!!play.wait seconds:86400"
    return [_call("session.play", session_id=session_id, text=text, detach=True)]


def values(session_id: str) -> list[bytes]:
    """Values for the session's store, small and large."""
    small = [_call("session.db.set", session_id=session_id, key=f"k{number}", value="v" * 100) for number in range(8)]
    return [*small, _call("session.db.set", session_id=session_id, key="large", value="v" * 900_000)]


def filtered_reads(session_id: str) -> list[bytes]:
    """Listings of a large set that find next to nothing, and jobs of a function there is not."""
    return [
        _call("session.ls", session_id=session_id, filter="*no-such*", limit=200),
        _call("jobs.list", function="none.such", state="failed"),
        _call("core.set.list", attribute="nothing", value="at all"),
    ]


def finds(session_id: str) -> list[bytes]:
    """Searches of a large playbook, with results and without."""
    found = _call("session.playbook_find", session_id=session_id, filter="play.*", include_done=True, limit=200)
    return [found, _call("session.playbook_find", session_id=session_id, filter="no.such,?*.?*x", limit=200)]


def subscriptions(session_id: str) -> list[bytes]:
    """Subscriptions from the oldest event on, and events to be told on each."""
    since = {"epoch": "none", "seq": 0}
    subscribe = _call("events.subscribe", topics=["*", "session.*", "job.*"], since=since, policy="latest")
    return [subscribe, _call("session.update", session_id=session_id, options={"human": True}), subscribe]


def discover(session_id: str) -> list[bytes]:
    """The whole description, one by one and in batches."""
    return [_call("rpc.discover"), _batch("rpc.discover", 20)]


KINDS: dict[str, Callable[[str], list[bytes]]] = {
    "ls": listings,
    "local jobs": local_jobs,
    "frames of 1 MB": frames,
    "playbooks": playbooks,
    "unknown methods": unknown_methods,
    "unknown jobs": unknown_jobs,
    "waits": waits,
    "values": values,
    "filtered reads": filtered_reads,
    "finds": finds,
    "subscriptions": subscriptions,
    "discover": discover,
}
WINDOWS = {"frames of 1 MB": 2, "playbooks": 2, "discover": 4}  # calls in flight on a connection, else WINDOW
WINDOW = 16


class Flood(Connection):
    """A connection that sends the next message for every one that is answered.

    Args:
        window: how many are in flight.
    """

    def __init__(self, url: str, credential: str, messages: list[bytes], window: int) -> None:
        self._messages: Iterator[bytes] = cycle([masked(message) for message in messages])
        self._window = window
        super().__init__(url, credential, [[b"{}"]], greets=True)

    def begin(self) -> None:
        """Fill the window."""
        self._send(self._window)

    def pour(self) -> int:
        """Take what has come, whatever it says, send as much again, and return how many answers that was."""
        answered = self.answers()
        self._send(answered)
        return answered

    def drop(self) -> None:
        """Close a connection that the other side has closed."""
        self._socket.close()

    def _send(self, count: int) -> None:
        for _ in range(count):
            self._socket.sendall(next(self._messages))


async def prepared(kind: str, url: str, credential: str) -> list[str]:
    """Make a session for each connection, and what a kind floods with; return the sessions' ids."""
    async with Client(url, credential) as client:
        sessions = [await client.create_session(f"{kind} {os.getpid()} {number}") for number in range(CONNECTIONS)]
        if kind == "filtered reads":
            for session in sessions:
                await client.cd(session, path="many")
        if kind == "finds":
            for session in sessions[:2]:
                await client.call("session.playbook_add", session_id=session, text=_actions(ACTIONS))
            sessions = sessions[:2] * (CONNECTIONS // 2)
        return sessions


class Flooder:
    """Keeps a flooding connection open for every session; one that is cut off begins anew."""

    def __init__(self, kind: str, url: str, credential: str) -> None:
        self._kind, self._url, self._credential = kind, url, credential
        self._poll = select.epoll()
        self._floods: dict[int, tuple[str, Flood]] = {}
        self.answered = 0

    def begin(self, session: str) -> None:
        """Open a connection, and fill its window."""
        try:
            flood = Flood(self._url, self._credential, KINDS[self._kind](session), WINDOWS.get(self._kind, WINDOW))
            flood.begin()
        except (LoadError, OSError) as error:
            print(f"a flood could not begin: {error}", file=sys.stderr)
            return
        self._floods[flood.fileno] = session, flood
        self._poll.register(flood.fileno, select.EPOLLIN)

    def run(self) -> None:
        """Flood until standard input is closed."""
        stop = sys.stdin.fileno()
        self._poll.register(stop, select.EPOLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd == stop:
                    return
                session, flood = self._floods[fd]
                try:
                    self.answered += flood.pour()
                except (LoadError, OSError) as error:
                    print(f"a flood was cut off: {error}", file=sys.stderr)
                    del self._floods[fd]
                    flood.drop()
                    self.begin(session)


def main(kind: str, url: str, credential: str) -> None:
    """Flood until standard input is closed; say on standard output when it has begun, and how much was answered."""
    try:
        sessions = asyncio.run(prepared(kind, url, credential))
    except CallError as error:
        raise LoadError(f"the flood {kind!r} could not be prepared: {error}") from error
    os.nice(NICENESS)
    flooder = Flooder(kind, url, credential)
    for session in sessions:
        flooder.begin(session)
    print("flooding", flush=True)
    flooder.run()
    print(flooder.answered, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
