"""A load client that costs little: blocking sockets behind one epoll, frames masked once, replies told by their length.

It knows of WebSocket only what a benchmark needs: the handshake, masked text frames out, whole unmasked frames in.
Every request ends with `"id":N}` where N, one digit, is the slot it was sent from; so does every reply.
"""

import math
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_SLOTS = 9
MAX_WAIT_S = 30
_KEY = b"\x1f\x8a\x35\xc4"
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
)


class LoadError(Exception):
    """The server answered with an error, or not at all: figures taken of it would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement found. CPU is seconds used while it ran; latencies are seconds.

    `client_share` is how much of its core the client used: near 1 it set the pace, not the server.
    """

    requests: int
    seconds: float
    server_cpu_s: float
    client_share: float
    p50_s: float
    p99_s: float

    @property
    def cpu_us(self) -> float:
        """Server CPU per request, in microseconds."""
        return self.server_cpu_s / self.requests * 1e6

    @property
    def rate(self) -> float:
        """Requests answered a second."""
        return self.requests / self.seconds


def masked(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Return the frame of a message as a client has to send it."""
    size = len(payload)
    head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else b""
    if size >= 1 << 16:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    elif size >= 126:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    pad = (_KEY * (size // 4 + 1))[:size]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
    return head + _KEY + body


class Connection:
    """One connection with a call in flight from each slot.

    Args:
        slots: for each slot the messages it sends, one after another, over and over.
        greets: the server speaks first; its greeting is read and dropped.
    """

    def __init__(self, url: str, credential: str | None, slots: list[list[bytes]], greets: bool) -> None:
        if not 0 < len(slots) <= MAX_SLOTS:
            raise ValueError(f"1 to {MAX_SLOTS} slots, not {len(slots)}")
        self._frames = [[masked(message) for message in messages] for messages in slots]
        self._turn = [0] * len(slots)
        self._sent = [0.0] * len(slots)
        self._rest = b""
        self.latencies: list[float] = []
        self.in_flight = 0
        self._socket = self._open(url, credential)
        self.fileno = self._socket.fileno()
        if greets:
            self._await_greeting()

    def begin(self) -> None:
        """Send the first call of each slot."""
        for slot in range(len(self._frames)):
            self._socket.sendall(self._next(slot, time.perf_counter()))

    def read(self, is_sending: bool) -> None:
        """Take the replies that have come, and send the next call of each slot that got one."""
        data = self._rest + self._receive()
        now = time.perf_counter()
        start, out = 0, []
        while (bounds := _frame(data, start)) is not None:
            body, stop = bounds
            if data[start] == 0x80 | _TEXT:
                slot = data[stop - 2] - 49
                if not 0 <= slot < len(self._sent) or data.find(b'"error"', body, body + 40) >= 0:
                    raise LoadError(f"the server answered {data[body : body + 300]!r}")
                self.in_flight -= 1
                self.latencies.append(now - self._sent[slot])
                if is_sending:
                    out.append(self._next(slot, now))
            else:
                self._control(data[start], data[body:stop])
            start = stop
        self._rest = data[start:]
        if out:
            self._socket.sendall(b"".join(out))

    def answers(self) -> int:
        """Take what has come and return how many messages were whole in it, whatever they say."""
        data = self._rest + self._receive()
        start = count = 0
        while (bounds := _frame(data, start)) is not None:
            body, stop = bounds
            if data[start] == 0x80 | _TEXT:
                count += 1
            else:
                self._control(data[start], data[body:stop])
            start = stop
        self._rest = data[start:]
        return count

    def ask(self, frame: bytes) -> tuple[float, bytes]:
        """Send a frame, wait for the next message, and return how long that took and the message."""
        started = time.perf_counter()
        self._socket.sendall(frame)
        while True:
            while (bounds := _frame(self._rest, 0)) is None:
                self._rest += self._receive()
            (body, stop), first = bounds, self._rest[0]
            message, self._rest = self._rest[body:stop], self._rest[stop:]
            if first == 0x80 | _TEXT:
                return time.perf_counter() - started, message
            self._control(first, message)

    def close(self) -> None:
        """Say goodbye and go."""
        self._socket.sendall(masked(b"\x03\xe8", _CLOSE))
        self._socket.close()

    def _next(self, slot: int, now: float) -> bytes:
        frames = self._frames[slot]
        turn = self._turn[slot]
        self._turn[slot] = (turn + 1) % len(frames)
        self._sent[slot] = now
        self.in_flight += 1
        return frames[turn]

    def _control(self, first: int, payload: bytes) -> None:
        if first == 0x80 | _PING:
            self._socket.sendall(masked(payload, _PONG))
        elif first != 0x80 | _PONG:
            raise LoadError(f"an unexpected frame, first byte {first:#x}: {payload[:200]!r}")

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise LoadError("the server closed the connection")
        return data

    def _open(self, url: str, credential: str | None) -> socket.socket:
        address = urlsplit(url)
        opened = socket.create_connection((address.hostname or "", address.port or 80), timeout=30)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        extra = f"Authorization: Bearer {credential}\r\n" if credential else ""
        opened.sendall(_HANDSHAKE.format(host=address.netloc, extra=extra).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = opened.recv(1 << 16)
            answer += part
            if not part or not answer.startswith(b"HTTP/1.1 101"[: len(answer)]):
                opened.close()
                raise LoadError(f"no WebSocket at {url}: {answer[:300]!r}")
        self._rest = answer.partition(b"\r\n\r\n")[2]
        return opened

    def _await_greeting(self) -> None:
        while (bounds := _frame(self._rest, 0)) is None:
            self._rest += self._receive()
        self._rest = self._rest[bounds[1] :]


def measure(connections: list[Connection], server_pid: int, warm_up_s: float, seconds: float) -> Sample:
    """Keep every slot of the connections busy for `seconds`, after a warm-up, and close them when all is answered.

    Where that is too short for one answer it goes on until there is one.
    """
    by_fd = {connection.fileno: connection for connection in connections}
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        for connection in connections:
            connection.begin()
        _drive(poll, by_fd, time.perf_counter() + warm_up_s)
        for connection in connections:
            connection.latencies.clear()
        started, own, server = time.perf_counter(), time.process_time(), cpu_seconds(server_pid)
        _drive(poll, by_fd, started + seconds)
        while not any(one.latencies for one in connections) and time.perf_counter() < started + MAX_WAIT_S:
            _drive(poll, by_fd, time.perf_counter() + seconds)
        took, own, server = time.perf_counter() - started, time.process_time() - own, cpu_seconds(server_pid) - server
        latencies = sorted(latency for connection in connections for latency in connection.latencies)
        _drain(poll, by_fd)
    for connection in connections:
        connection.close()
    if not latencies:
        raise LoadError(f"not one answer in {MAX_WAIT_S} s")
    p50, p99 = (latencies[math.ceil(len(latencies) * part) - 1] for part in (0.5, 0.99))
    return Sample(len(latencies), took, server, own / took, p50, p99)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, threads and kernel included; what clock_getcpuclockid(3) gives."""
    return time.process_time() if pid == os.getpid() else time.clock_gettime((~pid << 3) | 2)


def _drive(poll: select.epoll, by_fd: dict[int, Connection], until: float) -> None:
    while (left := until - time.perf_counter()) > 0:
        for fd, _ in poll.poll(left):
            by_fd[fd].read(True)


def _drain(poll: select.epoll, by_fd: dict[int, Connection]) -> None:
    deadline = time.perf_counter() + MAX_WAIT_S
    while any(connection.in_flight for connection in by_fd.values()):
        if time.perf_counter() > deadline:
            raise LoadError(f"calls were still unanswered after {MAX_WAIT_S} s")
        for fd, _ in poll.poll(1):
            by_fd[fd].read(False)


def _frame(data: bytes, start: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at `start` begins and ends, None while it is not all there."""
    end = len(data)
    if end - start < 2:
        return None
    size, body = data[start + 1], start + 2
    if size == 126:
        size, body = int.from_bytes(data[body : body + 2], "big"), body + 2
    elif size == 127:
        size, body = int.from_bytes(data[body : body + 8], "big"), body + 8
    return (body, body + size) if body + size <= end else None
