"""Every line of the log goes one way: nobody else writes into it, and no flood fills the disk with it."""

import io
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog

from rpcserver.client import Client
from rpcserver.telemetry.logs import LEFT_OUT, WINDOW_S, Rate, processors
from tests.conftest import Process

EVIL = 'a\nb\r\x1b[2J\x9b31m\x00\u2028\u202e {"event": "ready"}'


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_others_choose_is_shown_and_does_nothing(is_terminal: bool) -> None:
    """Text, keys, lists, objects and exceptions with control characters; and far too much of it."""
    out = io.StringIO()
    log = structlog.wrap_logger(structlog.PrintLogger(out), processors=processors(is_terminal))
    log.info(EVIL, text=EVIL, items=[EVIL], mapping={EVIL: EVIL}, thing=ValueError(EVIL), long="x" * 10**6)
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("failed")
    written = out.getvalue()
    plain = written.replace("\x1b[0m", "")
    if is_terminal:  # its own colours are left
        for number in (*range(1, 3), *range(30, 48)):
            plain = plain.replace(f"\x1b[{number}m", "")
    assert all(character == "\n" or character.isprintable() for character in plain)
    assert len(written) < 10_000 and "\\x1b[2J" in written.replace("\\u001b", "\\x1b")
    if is_terminal:
        assert all(line[:1] in ("2", " ") or not line for line in plain.split("\n"))  # a time, or a part of a traceback
    else:
        assert [json.loads(line)["level"] for line in written.splitlines()] == ["info", "error"]


def test_a_flood_of_one_event_is_counted() -> None:
    """Some are written, the number of the others afterwards; another event, and another logger, count by themselves."""
    told: list[tuple[Any, ...]] = []
    now = [100.0]
    rate = Rate(5, lambda *of: told.append(of), lambda: now[0])

    def passed(times: int, **event: Any) -> int:
        count = 0
        for _ in range(times):
            try:
                rate(None, "info", event)
                count += 1
            except structlog.DropEvent:
                pass
        return count

    assert passed(1000, event="refused") == 5 and passed(3, event="other") == 3
    assert passed(9, event="library", logger="a") == passed(9, event="library", logger="b") == 5
    assert told == []
    now[0] += WINDOW_S
    assert passed(2, event="refused") == 2
    assert sorted(told) == [("library", "a", 4, 10.0), ("library", "b", 4, 10.0), ("refused", None, 995, 10.0)]
    assert sum(passed(1, event=f"made up {number}") for number in range(10_000)) < 1100
    assert len(rate._seen) <= 1001
    rate._timer.cancel()  # type: ignore[union-attr]


DOORS = """
import asyncio, logging, sys, threading, warnings
import structlog
from rpcserver.telemetry import logs
logs.configure()
evil = sys.argv[1]
logging.getLogger("library").warning("of a library: %s", evil)
logging.getLogger("library").error("too few: %s %s", evil)
logging.getLogger("library").log(35, "odd level")
logging.getLogger("library").info("not asked for")
warnings.warn(evil)
async def lost():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    asyncio.get_running_loop().call_exception_handler({"message": evil})
    await asyncio.sleep(0)
    await asyncio.sleep(0)
asyncio.run(lost())
thread = threading.Thread(target=lambda: int(evil))
thread.start()
thread.join()
class Bad:
    def __del__(self):
        raise ValueError(evil)
Bad()
for number in range(31871):
    structlog.get_logger("server").warning("refused", number=number)
    logging.getLogger("flood").warning(evil)
raise ValueError(evil)
"""


def test_all_that_is_said_is_a_line() -> None:
    """Libraries, warnings, the loop's exceptions, threads, destructors, what nobody caught; floods are counted."""
    done = subprocess.run([sys.executable, "-c", DOORS, EVIL.replace("\x00", "")], capture_output=True, timeout=60)
    assert done.returncode == 1 and done.stdout == b""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    heard = [(line["event"], line.get("logger", line.get("where"))) for line in lines]
    for expected in [("library", name) for name in ("library", "py.warnings", "asyncio", "flood")] + [
        ("uncaught", "process")
    ]:
        assert expected in heard, expected
    assert sum(event == "uncaught" for event, _ in heard) == 3  # a thread, a destructor, the process
    assert heard.count(("refused", None)) == heard.count(("library", "flood")) == 50
    assert heard.count(("library", "library")) == 3
    assert sorted(line["times"] for line in lines if line["event"] == LEFT_OUT) == [31821, 31821]


async def test_nobody_writes_into_the_log_of_a_server(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Trace headers, names, paths and hosts of strangers; then no descriptor is left, for as long as it may be."""
    process = serve()
    evil = EVIL.replace("\x00", "\\u0000")
    async with Client(process.url) as client:
        for number in range(8):
            meta = {"traceparent": f"00-{EVIL}", "tracestate": f"{EVIL}={number},=,{'x' * 2000}"}
            await client.call("server.ping", _meta=meta)
            meta["traceparent"] = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
            await client.call("server.ping", _meta=meta)
    address = process.url.removeprefix("ws://").rstrip("/")
    where = (address.split(":")[0], int(address.split(":")[1]))
    for header in ("Host", "Origin", "X-Forwarded-For", "traceparent", "tracestate", "User-Agent", "Sec-WebSocket-Key"):
        with socket.create_connection(where) as one:
            one.sendall(f"GET /\x1b[31m HTTP/1.1\r\nHost: {address}\r\n{header}: \x1b[2J{evil}\r\n\r\n".encode())
            one.recv(1000)
    pid = process.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    with ExitStack() as stack:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            one = stack.enter_context(socket.socket())
            one.setblocking(False)  # a server without descriptors may leave it unanswered
            one.connect_ex(where)
            if len(stack._exit_callbacks) > 500:  # type: ignore[attr-defined]
                stack.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    async with Client(process.url) as client:
        assert await client.call("server.ping") == "pong"
    assert process.stop() == 0
    written = (tmp_path / "server.log").read_text("utf-8")
    lines = [json.loads(line) for line in written.splitlines()]
    assert {line["event"] for line in lines} >= {"library", "cannot_accept"}
    assert written.isascii() and all(one == "\n" or one.isprintable() for one in written)
    assert len(lines) < 200
