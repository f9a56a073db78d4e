"""Frames that no library sends: each is answered as RFC 6455 says, costs its own connection alone, and is no bug."""

import asyncio
import random
import struct
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from benchmarks.load import _HANDSHAKE, masked
from tests.builders import Wire
from tests.conftest import Running, run_server
from tests.protocol.test_events import until

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = b"\x1f\x8a\x35\xc4"
CALL = b'{"jsonrpc":"2.0","id":1,"method":"server.ping"}'


def frame(
    opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True, size: str = ""
) -> bytes:
    """Return a frame with whatever is wanted wrong in it; `size`: the struct format in which to write the length."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0x80 if mask else 0
    if size:
        head += bytes([bit | {"H": 126, "Q": 127}[size]]) + struct.pack(f"!{size}", len(data))
    else:
        head += bytes([bit | len(data)]) if len(data) < 126 else bytes([bit | 126]) + struct.pack("!H", len(data))
    if not mask:
        return head + data
    pad = (KEY * (len(data) // 4 + 1))[: len(data)]
    return head + KEY + (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(data), "big")


def closing(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


# What is sent, and the code the server closes with; None: it answers the call that follows.
CASES: list[tuple[bytes, int | None]] = [
    *((frame(TEXT, CALL, rsv=rsv), 1002) for rsv in range(1, 8)),
    *((frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *((frame(opcode, CALL, mask=False), 1002) for opcode in (TEXT, BINARY, PING, PONG, CLOSE)),
    *((frame(opcode, b"x" * 126), 1002) for opcode in (PING, PONG, CLOSE)),
    *((frame(opcode, b"xx", fin=False), 1002) for opcode in (PING, PONG, CLOSE)),
    *((frame(opcode, b"x" * 300, rsv=4), 1002) for opcode in (PING, PONG)),
    (frame(0, b"x"), 1002),
    (frame(0, b"x", fin=False), 1002),
    (frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), 1002),
    (frame(TEXT, b"{", fin=False) + frame(BINARY, b"}"), 1002),
    (frame(TEXT, CALL) + frame(0, b"x"), 1002),
    (frame(CLOSE, b"x"), 1002),
    *((closing(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    (closing(1000, b"\xff\xfe"), 1007),
    *((closing(code), code) for code in (1000, 1001, 1003, 1008, 3000, 4999)),
    *((frame(TEXT, data), 1007) for data in (b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf")),
    (frame(TEXT, b"\xc3", fin=False) + frame(0, b"("), 1007),
    (b"\x81\xff" + struct.pack("!Q", 2**63) + KEY, 1009),
    (b"\x81\xff" + struct.pack("!Q", 2**40) + KEY, 1009),
    (frame(TEXT, b" " * 500_000, fin=False, size="Q") + frame(0, b" " * 600_000, size="Q"), 1009),
    (frame(BINARY, b"\x00"), 1003),
    (frame(TEXT, CALL, size="H"), None),
    (frame(TEXT, CALL, size="Q"), None),
    (frame(PING, b"x" * 125), None),
    (frame(PONG, b"unasked"), None),
    (frame(TEXT, b"", fin=False) + frame(PING) + frame(0, b"", fin=False) + frame(0, CALL), None),
    (b"".join(frame(TEXT if at == 0 else 0, CALL[at : at + 1], fin=False) for at in range(len(CALL))) + frame(0), None),
    *((frame(TEXT, data), None) for data in (b"", b"\x00", b"{", b"null", b"[]", b"\xef\xbb\xbf{}", b'"\\ud800"')),
]


async def opened(server: Running, credential: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect, shake hands, and pass over the hello."""
    address = server.url.removeprefix("ws://").rstrip("/")
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(_HANDSHAKE.format(host=address, extra=f"Authorization: Bearer {credential}\r\n").encode())
    await reader.readuntil(b"\r\n\r\n")
    await answered(reader)
    return reader, writer


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return opcode and content of the next frame of the server's."""
    first, size = await reader.readexactly(2)
    if size == 126:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", await reader.readexactly(8))
    return first & 15, await reader.readexactly(size)


async def outcome(server: Running, credential: str, sent: bytes) -> int | None:
    """Return the code of the server's close, None when it answers a call instead."""
    reader, writer = await opened(server, credential)
    try:
        writer.write(sent + masked(b'{"jsonrpc":"2.0","id":"last","method":"server.ping"}'))
        while True:
            opcode, content = await answered(reader)
            if opcode == CLOSE:
                return int.from_bytes(content[:2], "big")
            if b'"last"' in content:
                return None
    finally:
        writer.close()


async def test_frames_made_by_hand(tmp_path: Path) -> None:
    """Reserved bits and codes, masks, fragments, lengths, closes and texts, each on a connection of its own."""
    with capture_logs() as lines:
        async with run_server(tmp_path / "data") as server, asyncio.timeout(30):
            credential = await server.credential("anna")
            beside = await Wire.open(server.url, credential)
            found = [await outcome(server, credential, sent) for sent, _ in CASES]
            told = zip(found, CASES, strict=True)
            wrong = [(sent[:40], code, expected) for code, (sent, expected) in told if code != expected]
            assert wrong == []
            assert (await beside.call("server.ping"))["result"] == "pong"
            await beside.close()
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []


def mutated(chance: random.Random) -> bytes:
    """Return some good frames in which bytes are changed, lost, doubled or put in."""
    session = b'{"jsonrpc":"2.0","id":%d,"method":"session.ls","params":{"_meta":{"deadline_ms":1000}}}'
    some = [masked(CALL), masked(session % chance.randrange(99)), masked(b"hi", PING), masked(b"[%b]" % CALL)]
    some += [frame(TEXT, CALL[:9], fin=False) + frame(0, CALL[9:]), masked(CALL, BINARY), closing(1000, b"bye")]
    data = bytearray(b"".join(chance.choices(some, k=chance.randint(1, 6))))
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(len(data))
        kind = chance.randrange(4)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            del data[at : at + chance.randint(1, 9)]
        elif kind == 2:
            data[at:at] = data[at : at + chance.randint(1, 40)]
        else:
            data[at:at] = chance.randbytes(chance.randint(1, 9))
        data = data or bytearray(b"\x00")
    return bytes(data)


@pytest.mark.parametrize("count", [200, pytest.param(3000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_mutated_frames(tmp_path: Path, count: int) -> None:
    """Whatever comes, the connection ends when its client ends it, nothing is kept of it, and others are answered."""
    chance = random.Random(count)
    with capture_logs() as lines:
        async with run_server(tmp_path / "data") as server:
            credential = await server.credential("anna")
            beside = await Wire.open(server.url, credential)
            for _ in range(count // 20):

                async def one() -> None:
                    reader, writer = await opened(server, credential)
                    writer.write(mutated(chance))
                    writer.write_eof()
                    try:
                        await reader.read()
                    except ConnectionResetError:
                        pass  # it was given up for what it sent
                    writer.close()

                async with asyncio.timeout(30):
                    await asyncio.gather(*(one() for _ in range(20)))
                assert (await beside.call("server.ping"))["result"] == "pong"
            await until(lambda: server.app.server.connection_count == 1)
            (left,) = server.app.server._connections
            assert left._incoming.used == 0
            await beside.close()
    assert [line for line in lines if line["log_level"] in ("error", "critical")] == []
