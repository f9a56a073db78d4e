"""The sockets that are listened on: what is accepted, how much at a time, and what happens when nothing more fits.

Written here because a loop's own server accepts all that wait in one turn, and without a descriptor left it tries, and
complains, without end.
"""

import asyncio
import errno
import resource
import socket
from collections.abc import Callable

import structlog

from rpcserver.rpc.scheduler import Share, now_s

log = structlog.get_logger("server")

BACKLOG = 4096  # of clients that come back together; the system allows as many as net.core.somaxconn
ACCEPT_S = 0.002  # of a turn of the loop
RETRY_S = 0.2  # after which it is tried again, when there is no descriptor or memory
SPARE_FILES = 256  # what a server opens besides its connections

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)  # it was gone, or forbidden, before we took it


def bound(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to every address of a host; called at the start, when nobody waits. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, address in dict.fromkeys((one[0], one[4]) for one in found):
            sockets.append(socket.create_server(address, family=family, backlog=BACKLOG))
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def raise_file_limit(needed: int) -> None:
    """Let this process open as many files as a server needs, as far as the system's hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def file_room() -> float:
    """Return from which descriptor on no more connections are taken: those behind it are for the server's own work."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft - min(SPARE_FILES, soft // 4)


class Listener:
    """Accepts connections, a few at a time.

    Args:
        sockets: bound, and listening.
        share: of whose time accepting is a part.
        take: called with each new socket; False when it is not wanted, and is closed.
    """

    def __init__(self, sockets: list[socket.socket], share: Share, take: Callable[[socket.socket], bool]) -> None:
        self.sockets = sockets
        self._share = share
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._room = file_room()
        self._retry: asyncio.TimerHandle | None = None
        self._is_exhausted = False
        self.is_open = False

    def start(self) -> None:
        """Begin to accept."""
        self.is_open = True
        for one in self.sockets:
            one.setblocking(False)
            self._loop.add_reader(one.fileno(), self._accept, one)

    def stop(self) -> None:
        """Accept no more; who comes now is refused by the system."""
        self.is_open = False
        if self._retry is not None:
            self._retry.cancel()
        for one in self.sockets:
            self._loop.remove_reader(one.fileno())
            one.close()

    def _accept(self, listening: socket.socket) -> None:
        began = now_s()
        now, accepted = began, 0
        # One at least: a flood of strangers must not keep everybody out.
        while accepted == 0 or (now - began < ACCEPT_S and not self._share.is_spent(now)):
            try:
                taken, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    break
                if error.errno in _GONE:
                    continue
                raise
            accepted += 1
            self._is_exhausted = False
            if taken.fileno() >= self._room:
                log.warning("connection_dropped", reason="no descriptor is free for it", advice="raise `ulimit -n`")
                taken.close()
            elif not self._take(taken):
                taken.close()
            now = now_s()
        self._share.spend(now - began)

    def _pause(self, error: OSError) -> None:
        if not self._is_exhausted:
            log.error("cannot_accept", reason=error.strerror, advice="raise `ulimit -n`, or lower max_connections")
        self._is_exhausted = True
        for one in self.sockets:
            self._loop.remove_reader(one.fileno())
        if self._retry is None:
            self._retry = self._loop.call_later(RETRY_S, self._resume)

    def _resume(self) -> None:
        self._retry = None
        if self.is_open:
            self.start()
