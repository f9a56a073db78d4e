"""`rpcserver doctor`: looks at everything a server needs on this machine, and says what to do.

Every check answers one `Finding`; none changes what is kept.
"""

import http.client
import json
import os
import resource
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from plugins.errors import BadPlugin
from rpcserver import extras
from rpcserver.addresses import is_loopback
from rpcserver.app import job_specs, load_plugins
from rpcserver.methods import METHODS
from rpcserver.methods.plugin import with_plugins
from rpcserver.settings import RUNNING, Settings
from rpcserver.transport import start_checks
from rpcserver.transport.listening import SPARE_FILES
from store import DATABASE, StoreError, StoreLocked, backup
from store.migrate import SCHEMA_VERSION

# SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when two connections write or checkpoint at the same time.
SOUND_SQLITE = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: `fail` keeps a server from starting or working, `warn` may hurt later."""

    level: Literal["ok", "warn", "fail"]
    what: str
    remedy: str = ""


def examine(settings: Settings) -> int:
    """Print every finding, and return the exit status."""
    findings = list(look(settings))
    for finding in findings:
        print(f"{finding.level:<5} {finding.what}")
        if finding.remedy:
            print(f"      -> {finding.remedy}")
    return 1 if any(finding.level == "fail" for finding in findings) else 0


def look(settings: Settings) -> Iterator[Finding]:
    """Return what was found, check by check. The settings were read without a fault, or we were not here."""
    yield Finding("ok", "settings: read without a fault")
    yield _python()
    yield _sqlite(sqlite3.sqlite_version_info)
    yield (found := _extras(settings))
    running = _running(settings.data)
    yield from _folder(settings.data)
    if (settings.data / DATABASE).is_file():
        yield _database(settings.data, running)
    yield _disk(settings)
    yield _port(settings, running)
    yield from _exposure(settings)
    yield _open_files(settings)
    if found.level == "ok":
        yield _plugins(settings)


def ask_ready(settings: Settings, is_address_given: bool) -> int:
    """Print whether a server is ready, and return the exit status.

    Args:
        is_address_given: ask at the address of the settings; else at that of the server on the data folder, if one
            runs there.
    """
    if not is_address_given and settings.data.exists() and not settings.data.is_dir():
        print(f"{settings.data} is a file: give --data a folder")
        return 1
    running = None if is_address_given else _running(settings.data)
    where = urlsplit(running["url"]) if running is not None else None
    host, port = (settings.host, settings.port) if where is None else (where.hostname or "", where.port or 0)
    is_tls = settings.tls_cert is not None if where is None else where.scheme == "wss"
    try:
        status, text = start_checks.page(host, port, "/readyz", is_tls=is_tls)
    except (OSError, http.client.HTTPException) as error:
        unknown = "" if where is not None or is_address_given else f"no server runs on {settings.data}, and "
        print(f"{unknown}no answer from {host}:{port} ({error})")
        return 1
    print(text.strip())
    return 0 if status == 200 else 1


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not __debug__:
        remedy = "start Python without -O: jsonrpcserver checks by `assert`"
        return Finding("warn", f"Python {version} runs without assertions", remedy)
    return Finding("ok", f"Python {version}")


def _sqlite(version: tuple[int, int, int]) -> Finding:
    shown = ".".join(str(part) for part in version)
    if version < SOUND_SQLITE:
        return Finding(
            "warn",
            f"SQLite {shown} can damage a database that two programs write at once (mended in 3.51.3)",
            "rpcserver writes through one connection only, which is safe; let no other program open its database, "
            "and copy it with `rpcserver backup`",
        )
    return Finding("ok", f"SQLite {shown}")


def _extras(settings: Settings) -> Finding:
    there = f"extras: {', '.join(extras.installed()) or 'none'}"
    try:
        extras.check(settings)
    except extras.MissingExtra as error:
        return Finding("fail", f"{there}; {error}", "install it, or take the setting out")
    return Finding("ok", there)


def _folder(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        above = next(path for path in folder.absolute().parents if path.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield Finding("ok", f"data folder {folder}: is not there yet, and will be made")
        else:
            remedy = f"give --data a folder that {_me()} may write to, or make it for {_me()} as root"
            yield Finding("fail", f"data folder {folder}: cannot be made in {above}", remedy)
        return
    if not folder.is_dir():
        yield Finding("fail", f"data folder {folder}: is a file", "give --data a folder")
        return
    found = folder.stat()
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        remedy = f"chown -R {_me()} {folder}, or run rpcserver as its owner"
        yield Finding("fail", f"data folder {folder}: {_me()} may not write there", remedy)
    elif stat.S_IMODE(found.st_mode) & 0o077:
        remedy = f"chmod 700 {folder}: it holds what users wrote, and hashes of their credentials"
        yield Finding("warn", f"data folder {folder}: others on this machine may look into it", remedy)
    else:
        yield Finding("ok", f"data folder {folder}: yours alone")


def _database(folder: Path, running: dict[str, Any] | None) -> Finding:
    path = folder / DATABASE
    try:
        if running is None:
            with backup.claimed(folder):
                backup.check_database(path)
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    except StoreLocked as error:
        return Finding("warn", f"database {path}: {error}")
    except (StoreError, sqlite3.Error) as error:
        remedy = "keep the folder as it is, and `rpcserver restore BACKUP --replace`"
        return Finding("fail", f"database {path}: {error}", remedy)
    if version > SCHEMA_VERSION:
        return Finding("fail", f"database {path}: of a newer version ({version})", "upgrade rpcserver")
    if 0 < version < SCHEMA_VERSION:
        return Finding("fail", f"database {path}: from before the first release ({version})", "use a new data folder")
    if running is not None:
        return Finding("ok", f"database {path}: in use by the server, process {running['pid']}")
    return Finding("ok", f"database {path}: whole")


def _disk(settings: Settings) -> Finding:
    folder = settings.data.absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    shown = f"{free / 2**20:.0f} MiB free"
    if free < settings.min_free_disk_bytes:
        least = settings.min_free_disk_bytes / 2**20
        return Finding("fail", f"disk: {shown}, less than {least:.0f} MiB", "free some space, or move the data folder")
    return Finding("ok", f"disk: {shown}")


def _port(settings: Settings, running: dict[str, Any] | None) -> Finding:
    where = f"{settings.host}:{settings.port}"
    if running is not None and running["url"].rstrip("/").endswith(f":{settings.port}"):
        return Finding("ok", f"port {where}: served by process {running['pid']}")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((settings.host, settings.port))
        except OSError as error:
            reason, _, remedy = str(start_checks.cannot_listen(error, settings)).partition(": ")
            return Finding("fail", f"port {where}: {reason}", remedy)
    return Finding("ok", f"port {where}: free")


def _exposure(settings: Settings) -> Iterator[Finding]:
    if is_loopback(settings.host):
        yield Finding("ok", f"address {settings.host}: this machine only")
    else:
        remedy = "listen on 127.0.0.1 and put a proxy with TLS in front: see docs/how-to/deploy.md"
        yield Finding("warn", f"address {settings.host}: reachable from elsewhere without TLS of its own", remedy)
        if not settings.hosts:
            remedy = 'set `hosts = ["app.example.org"]`: the names clients will use'
            yield Finding("warn", "hosts: no name besides the address is served", remedy)


def _open_files(settings: Settings) -> Finding:
    # What is allowed at most: `serve` takes as much of it as it needs.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.max_connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        remedy = f"LimitNOFILE={needed} in the unit, or `ulimit -Hn {needed}`; or a smaller max_connections"
        return Finding("warn", f"open files: {hard}, for {settings.max_connections} connections", remedy)
    return Finding("ok", f"open files: {'unlimited' if hard == resource.RLIM_INFINITY else hard}")


def _plugins(settings: Settings) -> Finding:
    try:
        bus = load_plugins(settings)
        job_specs(bus, None)
        with_plugins(METHODS, bus)
    except BadPlugin as error:
        return Finding("fail", f"plugins: {error}", "mend it, or leave it out")
    return Finding("ok", f"plugins: {', '.join(bus.names)}")


def _running(folder: Path) -> dict[str, Any] | None:
    """Return what the running server noted in the folder; None when none runs, or it left the note behind."""
    try:
        note: dict[str, Any] = json.loads((folder / RUNNING).read_text("utf-8"))
        os.kill(note["pid"], 0)
    except (OSError, ValueError, KeyError):
        return None
    return note


def _me() -> str:
    return os.environ.get("USER") or str(os.getuid())
