"""What strangers cost a user: how long a quiet user waits beside floods from sockets without a credential.

    python -m benchmarks.strangers [--rounds 3] [--seconds 2] [--only pongs,batches] [--json FILE] [--check]

As `benchmarks.fairness`, whose probe it uses, for what nobody has to be let in for: frames, messages, requests and
handshakes of all kinds, poured as fast as the server reads, by as many sockets as SOCKETS; one that is closed is opened
again. Of the kinds marked `user` the sockets are one user's, since what they send is no call that a limit would count.
"""

import argparse
import asyncio
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.fairness import QUIET, Figures, judged, populate, probed, quiet_session, show
from benchmarks.load import _HANDSHAKE, LoadError, masked
from benchmarks.servers import start

SOCKETS = 6
NICENESS = 19
POURED = 1 << 18  # bytes of a flood that are handed over at a time
_CONT, _TEXT, _PING, _PONG = 0, 1, 9, 10
_KEY = b"\x1f\x8a\x35\xc4"


def _call(method: str, params: str = "{}") -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"%b","params":%b}' % (method.encode(), params.encode())


def _batch(call: bytes, at_most: int = 4000) -> bytes:
    count = min(100, (at_most - 2) // (len(call) + 1))
    return masked(b"[%b]" % b",".join([call] * count))


def part(opcode: int, payload: bytes, is_last: bool = False) -> bytes:
    """Return a frame of a message in several."""
    frame = masked(payload, opcode)
    return frame if is_last else bytes([frame[0] & 0x7F]) + frame[1:]


def _head(method: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([f"{method} / HTTP/1.1", "Host: 127.0.0.1", *headers, "", body]).encode()


# What each socket pours: once at the beginning, and then over and over. None for the first: no WebSocket is opened.
KINDS: dict[str, tuple[bytes | None, bytes]] = {
    "unknown methods": (b"", _batch(_call("sesion.lists"))),
    "unknown notices": (b"", _batch(b'{"jsonrpc":"2.0","method":"sesion.lists"}')),
    "discover": (b"", _batch(_call("rpc.discover"))),
    "no JSON": (b"", masked(b"{")),
    "empty texts": (b"", masked(b"")),
    "dense": (b"", masked(b"[%b]" % b",".join([b"[[]]"] * 800))),
    "pings": (b"", masked(b"", _PING)),
    "long pings": (b"", masked(b"x" * 125, _PING)),
    "pongs": (b"", masked(b"", _PONG)),
    "empty parts": (part(_TEXT, b"{"), part(_CONT, b"")),
    "parts of a byte": (part(_TEXT, b"{"), part(_CONT, b"x")),
    "unfinished": (b"", part(_TEXT, b"x" * 4000) + part(_CONT, b"x" * 4000)),
    "wrong credentials": (b"", masked(_call("auth.authenticate", '{"credential":"rpc_wrong"}'))),
    "wrong tickets": (b"", masked(_call("auth.authenticate", '{"ticket":"rpct_wrong"}'))),
    "after the end": (masked(b"\x03\xe8", 8), masked(b"", _PONG)),
    "handshakes": (None, _head("GET", "Connection: close")),
    "long headers": (None, _head("GET", *[f"X-{n}: {'x' * 7000}" for n in range(100)])),
    "posts": (None, _head("POST", "Content-Length: 100000", body="x" * 100_000)),
    "no HTTP": (None, b"\x00" * 10_000),
    "user: pongs": (b"", masked(b"", _PONG)),
    "user: pings": (b"", masked(b"x" * 125, _PING)),
    "user: empty parts": (part(_TEXT, b"{"), part(_CONT, b"")),
    "user: parts of a byte": (part(_TEXT, b"{"), part(_CONT, b"x")),
    "user: no JSON": (b"", masked(b"{")),
    "user: unknown notices": (b"", _batch(b'{"jsonrpc":"2.0","method":"sesion.lists"}', 900_000)),
    "user: answers": (b"", _batch(b'{"jsonrpc":"2.0","id":"s1","result":{"a":1,"a":2}}', 900_000)),
    "user: many values": (b"", masked(_call("server.ping", f"[{'[],' * 19_000}[]]"))),
}


class Flood:
    """A socket that pours, and is opened again when it is closed."""

    def __init__(self, kind: str, url: str, credential: str | None, poll: selectors.BaseSelector) -> None:
        self._first, again = KINDS[kind]
        self._again = again * max(1, POURED // len(again))
        self._url = urlsplit(url)
        self._credential = credential
        self._poll = poll
        self.poured = 0
        self._rest = memoryview(self._again)
        self._open()

    def pour(self) -> None:
        """Hand over as much as is taken; read and forget the answers."""
        try:
            while self._socket.recv(1 << 18):
                pass
            raise ConnectionError("closed")
        except BlockingIOError:
            pass
        except OSError:
            self.drop()
            self._open()
            return
        try:
            sent = self._socket.send(self._rest)
        except (BlockingIOError, ConnectionError):
            return
        self.poured += sent
        # A frame that was cut goes on where it was cut.
        self._rest = self._rest[sent:] or memoryview(self._again)

    def drop(self) -> None:
        """Pour no more."""
        self._poll.unregister(self._socket)
        self._socket.close()

    def _open(self) -> None:
        address = (self._url.hostname or "", self._url.port or 80)
        self._socket = socket.create_connection(address, timeout=30)
        if self._first is not None:
            bearer = f"Authorization: Bearer {self._credential}\r\n" if self._credential else ""
            self._socket.sendall(_HANDSHAKE.format(host=self._url.netloc, extra=bearer).encode() + self._first)
        self._rest = memoryview(self._again)
        self._socket.setblocking(False)
        self._poll.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)


def flood(kind: str, url: str, credential: str | None) -> None:
    """Pour until standard input is closed."""
    os.nice(NICENESS)
    poll = selectors.DefaultSelector()
    floods = [Flood(kind, url, credential, poll) for _ in range(SOCKETS)]
    poll.register(sys.stdin, selectors.EVENT_READ)
    print("flooding", flush=True)
    while True:
        for key, _ in poll.select():
            if key.data is None:
                print(sum(one.poured for one in floods), flush=True)
                return
            try:
                key.data.pour()
            except OSError as error:
                print(f"a socket could not be opened: {error}", file=sys.stderr)


@contextmanager
def _flooded(kind: str, url: str, credential: str, folder: Path) -> Iterator[None]:
    if kind == QUIET:
        yield
        return
    given = [credential] if kind.startswith("user") else []
    command = [sys.executable, "-m", "benchmarks.strangers", "flood", kind, url, *given]
    with (
        open(folder / "flood.log", "ab") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as pouring,
    ):
        assert pouring.stdout is not None and pouring.stdin is not None
        if pouring.stdout.readline() != "flooding\n":
            raise LoadError(f"the flood {kind!r} did not begin: {(folder / 'flood.log').read_text()[-1000:]}")
        yield
        pouring.stdin.close()
        poured = pouring.stdout.readline()
        if pouring.wait(60) or not int(poured or 0):
            raise LoadError(f"the flood {kind!r} ended early: {(folder / 'flood.log').read_text()[-1000:]}")


def measure(folder: Path, kinds: list[str], rounds: int, seconds: float) -> tuple[dict[str, list[Figures]], int]:
    """Return the figures of each round, and by how many bytes the server's memory grew."""
    credentials = asyncio.run(populate(folder))
    loud = next(credential for name, credential in credentials.items() if name != QUIET)
    server = start("server", folder, None, "-m", "rpcserver", "serve", "--data", str(folder / "data"), "--port", "0")[0]
    try:
        session_id = asyncio.run(quiet_session(server.url, credentials[QUIET]))
        found: dict[str, list[Figures]] = {kind: [] for kind in (QUIET, *kinds)}
        before = _resident(server.pid)
        for number in range(rounds):
            for kind in found:
                with _flooded(kind, server.url, loud, folder):
                    figures = probed(server.url, credentials[QUIET], session_id, seconds)
                found[kind].append(figures)
                shown = "  ".join(f"{use} {took:8.1f}" for use, took in figures.items())
                grown = (_resident(server.pid) - before) / 2**20
                print(f"round {number + 1} {kind:22} {shown}  +{grown:.0f} MiB", file=sys.stderr, flush=True)
        return found, _resident(server.pid) - before
    finally:
        server.stop()


def _resident(pid: int) -> int:
    """Return the most memory a process has had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Measure, print the table and, with `--check`, fail on a miss."""
    if sys.argv[1:2] == ["flood"]:
        flood(sys.argv[2], sys.argv[3], sys.argv[4] if len(sys.argv) > 4 else None)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", help="kinds, separated by commas")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    kinds = given.only.split(",") if given.only else list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory() as folder:
        found, grown = measure(Path(folder), kinds, given.rounds, given.seconds)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))
    rows, missed = judged(found)
    show(rows, missed)
    print(f"the server's memory grew by {grown / 2**20:.0f} MiB at most")
    if given.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
