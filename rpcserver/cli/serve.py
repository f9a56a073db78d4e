"""`rpcserver serve`: the process around a running server."""

import asyncio
import json
import os
import shlex
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from rpcserver.app import App, running
from rpcserver.cli import systemd
from rpcserver.settings import RUNNING, Settings
from rpcserver.transport import listening

log = structlog.get_logger("service")

OWNER = "owner"  # the first user of a folder

# The writer's thread gives the interpreter away with every statement, and waits so long to get it back from a busy
# loop: with Python's own five milliseconds a walk of forty statements would take a fifth of a second beside a flood.
SWITCH_INTERVAL_S = 0.00002


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    listening.raise_file_limit(settings.max_connections + listening.SPARE_FILES)
    if sys.platform != "win32":
        run: Any = asyncio.run
        with suppress(ImportError):
            import uvloop

            run = uvloop.run
        # Outside of the block: else every traceback in the log would begin with the missing uvloop.
        run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _asked_to_stop, stop, settings)
    async with running(settings, systemd.inherited_socket()) as app:
        await _make_owner(app)
        note = settings.data / RUNNING
        _write_private(note, {"url": app.server.url, "pid": os.getpid(), "operator": str(app.services.operator_secret)})
        try:
            print(json.dumps({"event": "ready", "url": app.server.url, "pid": os.getpid()}), flush=True)
            systemd.notify(f"READY=1\nSTATUS=Serving {app.server.url}")
            await _until(stop, app)
        finally:
            systemd.notify("STOPPING=1")
            with suppress(OSError):  # a disk that is gone takes it along
                note.unlink(missing_ok=True)


def _asked_to_stop(stop: asyncio.Event, settings: Settings) -> None:
    if stop.is_set():
        log.warning("stopping", advice="running calls have shutdown_grace_s to end; SIGKILL loses nothing acknowledged")
        return
    stop.set()
    timer = threading.Timer(settings.shutdown_grace_s + settings.stop_margin_s, _end_anyhow)
    timer.daemon = True
    timer.start()


def _end_anyhow() -> None:
    """End the process, which a thread or a disk keeps on its way out. What was acknowledged is stored."""
    frames = sys._current_frames()
    hanging = {
        thread.name: f"{frames[thread.ident].f_code.co_filename}:{frames[thread.ident].f_lineno}"
        for thread in threading.enumerate()
        if thread.ident in frames and thread is not threading.current_thread()
    }
    log.error("stopped_anyhow", threads=hanging)
    sys.stderr.flush()
    os._exit(1)


async def _until(stop: asyncio.Event, app: App) -> None:
    every_s = systemd.watchdog_s()
    while not stop.is_set():
        try:
            async with asyncio.timeout(every_s / 2 if every_s else None):
                await stop.wait()
        except TimeoutError:
            # Said while the loop turns and the store can still take a write: else we are restarted. Not through the
            # writer: whoever waits for a long write is not helped by a server that begins it again.
            if app.services.store.is_broken:
                log.error("watchdog_not_fed", reason="the store is broken: a restart opens it again")
            else:
                systemd.notify("WATCHDOG=1")


async def _make_owner(app: App) -> None:
    """Make an owner in a folder without users, and show their credential to a person, never to what keeps logs."""
    if await app.services.store.read(lambda tx: tx.one("SELECT 1 FROM users LIMIT 1")) is not None:
        return
    credential = await app.operate("operator.user_add", name=OWNER)
    if not sys.stderr.isatty():
        await app.operate("operator.give_back", credential=credential)  # nobody was shown it
        command = shlex.join(["rpcserver", "credential", "create", OWNER, "--data", str(app.services.settings.data)])
        log.info("first_user", name=OWNER, advice=f"`{command}` prints a credential")
        return
    print(
        f"\nA new data folder. Its first user is {OWNER!r}, with this credential (shown only now):\n\n"
        f"    {credential}\n\nTry it from another terminal:\n\n"
        f"    rpcserver call session.ls --url {app.server.url} --credential {credential}\n",
        file=sys.stderr,
        flush=True,
    )


def _write_private(path: Path, content: dict[str, object]) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
