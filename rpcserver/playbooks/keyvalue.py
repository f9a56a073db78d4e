"""Key-value stores on the filesystem: one of each session, one of each context, and each context's secrets.

    <data>/stores/<user id>/<context>/    a collection of `heroscript.kvs`: `config`, `secrets`, `session_<id>`

Names from outside never become paths unchecked: user and session ids are ours, a context's name is a word, and keys
are encoded by `heroscript.kvs`. Files are read and written in threads; what the disk says against it is told in the
words of `store.errors`, as for rows.
"""

import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import structlog

from core.errors import QuotaExceeded
from heroscript.errors import BadKey, MissingKey
from heroscript.kvs import Collection, Store
from rpcserver.auth.authenticator import Secret
from store import Pool, PoolError, StoreError, StoreFailed, named, sync_folder

log = structlog.get_logger("stores")

T = TypeVar("T")
CONFIG, SECRETS = "config", "secrets"
_SESSION = "session_"
_KEY_FILE = "secrets.key"
_KEPT_OPEN = 1000


@dataclass(slots=True)
class Kept:
    """How much a user keeps in all stores together. `lock`: one change of it at a time."""

    keys: int = 0
    bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Stores:
    """The stores of a data folder.

    Args:
        root: where they lie.
        secret: seals everything stored from now on; None: only the contexts' secrets are sealed, with a key of the
            data folder's own that its operator alone can read.
        threads: in which files are read and written.
        max_keys, max_bytes: what one user may keep in all stores together.
    """

    def __init__(self, root: Path, secret: Secret | None, threads: Pool, max_keys: int, max_bytes: int) -> None:
        self._max_keys, self._max_bytes = max_keys, max_bytes
        self._kept: dict[str, Kept] = {}
        self._threads = threads
        self._root = root
        self._secret = secret
        self._open: dict[tuple[str, str, str], Store] = {}
        self._opening = threading.Lock()  # two threads must not make one store

    async def settle(self) -> None:
        """Have the disk know what a killed server did last to the upper folders. Raises StoreError."""
        await self._run(self._settle)

    async def sweep(self, are_there: Callable[[list[str]], Awaitable[set[str]]]) -> None:
        """Remove what was left behind by a kill: half made files and folders, and stores of sessions that are gone.

        Args:
            are_there: tells which of some sessions there are.

        Raises StoreError.
        """
        for user_id, context_name in await self._run(self._places):
            names = await self._run(partial(self._sweep, user_id, context_name))
            there = await are_there([name.removeprefix(_SESSION) for name in names])
            for name in names:
                if name.removeprefix(_SESSION) not in there:
                    await self.destroy(user_id, context_name, name)

    async def use(self, user_id: str, context_name: str, name: str, fn: Callable[[Store], T]) -> T:
        """Run `fn(store)` in a thread and return what it returns; the store is made when it is not there."""
        return await self._run(lambda: fn(self._store(user_id, context_name, name)))

    async def set(self, user_id: str, context_name: str, name: str, key: str, value: str) -> int:
        """Store a value under a key and return its number. Raises QuotaExceeded."""
        return await self._run(lambda: self._set(user_id, context_name, name, key, value))

    async def delete(self, user_id: str, context_name: str, name: str, key: str) -> bool:
        """Remove a value and tell whether there was one."""
        return await self._run(lambda: self._delete(user_id, context_name, name, key))

    async def kept(self, user_id: str) -> tuple[int, int]:
        """Return how many keys a user keeps, and their bytes."""

        def look() -> tuple[int, int]:
            kept = self._kept_by(user_id)
            with kept.lock:
                return kept.keys, kept.bytes

        return await self._run(look)

    async def destroy(self, user_id: str, context_name: str, name: str) -> bool:
        """Remove a store with all its values; tell whether there was one."""
        place = (user_id, context_name, name)
        self._open.pop(place, None)
        try:
            return await self._run(partial(self._destroy, *place))
        finally:
            self._open.pop(place, None)  # somebody may have opened it in between
            self._kept.pop(user_id, None)  # counted anew when it matters

    async def leave(self, user_id: str, context_name: str, name: str) -> None:
        """Remove the store of a session that is gone; if that cannot be now, it is for the sweep of the next start."""
        try:
            await self.destroy(user_id, context_name, name)
        except (StoreError, PoolError) as error:
            log.warning("store_left", user_id=user_id, store=name, reason=str(error))

    async def secret(self, user_id: str, context_name: str, key: str) -> Secret:
        """Return one of a context's secrets. Raises MissingKey, or BadKey."""
        try:
            return Secret(await self.use(user_id, context_name, SECRETS, lambda store: store.get(key)))
        except MissingKey:
            raise MissingKey(f"there is no secret {key!r} in the context {context_name!r}") from None

    async def _run(self, fn: Callable[[], T]) -> T:
        """Run a function in a thread; an error of the disk, or of descriptors, is a StoreError."""
        try:
            return await self._threads.run(fn)
        except OSError as error:
            meaning = named(error)
            raise (meaning if isinstance(meaning, StoreError) else StoreFailed()) from error

    def _set(self, user_id: str, context_name: str, name: str, key: str, value: str) -> int:
        kept, store = self._kept_by(user_id), self._store(user_id, context_name, name)
        with kept.lock:
            before = store.size(key)
            grown = len(value.encode("utf-8", "replace")) - (before or 0)
            advice = "delete keys, or destroy stores"
            if before is None and kept.keys >= self._max_keys:
                raise QuotaExceeded("max_store_keys_per_user", self._max_keys, kept.keys, advice)
            if grown > 0 and kept.bytes + grown > self._max_bytes:
                raise QuotaExceeded("max_store_bytes_per_user", self._max_bytes, kept.bytes, advice)
            number = store.set(key, value)
            kept.keys += before is None
            kept.bytes += (store.size(key) or 0) - (before or 0)
        return number

    def _delete(self, user_id: str, context_name: str, name: str, key: str) -> bool:
        kept, store = self._kept_by(user_id), self._store(user_id, context_name, name)
        with kept.lock:
            before = store.size(key) or 0
            was_there = store.delete(key)
            if was_there:
                kept.keys -= 1
                kept.bytes -= before
        return was_there

    def _kept_by(self, user_id: str) -> "Kept":
        """Return what a user keeps, counted once and then kept up; there is no more than the bounds to be counted."""
        kept = self._kept.get(user_id)
        if kept is None:
            counted = Kept()
            user = self._folder(user_id, CONFIG).parent
            stores = [store for context in _within(user) for store in _within(context)]
            for path in (path for store in stores if store.name[0] != "." for path in _within(store)):
                if path.name[0] != ".":
                    with suppress(FileNotFoundError):
                        counted.bytes += path.stat().st_size
                        counted.keys += 1
            with self._opening:
                while len(self._kept) >= _KEPT_OPEN:
                    self._kept.pop(next(iter(self._kept)))
                kept = self._kept.setdefault(user_id, counted)
        return kept

    def _settle(self) -> None:
        if self._root.is_dir():
            for path in self._root.glob(f".{_KEY_FILE}-*"):
                path.unlink()
            sync_folder(self._root)
        sync_folder(self._root.parent)

    def _places(self) -> list[tuple[str, str]]:
        if not self._root.is_dir():
            return []
        users = [user for user in self._root.iterdir() if user.is_dir()]
        return [(user.name, context.name) for user in users for context in user.iterdir() if context.is_dir()]

    def _sweep(self, user_id: str, context_name: str) -> list[str]:
        """Sweep one context's folder, and return which stores of sessions are in it."""
        folder = self._root / user_id / context_name
        with self._opening:
            collection = Collection(folder)
            if collection.is_unused:
                shutil.rmtree(folder)
                sync_folder(folder.parent)
                return []
        collection.sweep()
        return list(collection.list(_SESSION))

    def _folder(self, user_id: str, context_name: str) -> Path:
        """Return where a context's stores are, or would be. Raises BadKey."""
        for part in (user_id, context_name):
            if not part or part[0] == "." or "/" in part or "\\" in part:
                raise BadKey(f"{part!r} cannot be the name of a folder")
        return self._root / user_id / context_name

    def _destroy(self, user_id: str, context_name: str, name: str) -> bool:
        folder = self._folder(user_id, context_name)
        with self._opening:  # the sweep takes unused folders away, one with a store is none
            collection = Collection(folder) if folder.is_dir() else None
            if collection is None or not collection.exists(name):
                return False
        return collection.delete(name)

    def _store(self, user_id: str, context_name: str, name: str) -> Store:
        # Deriving the key of a sealed store takes a tenth of a second: an open store is kept.
        place = (user_id, context_name, name)
        with self._opening:
            store = self._open.get(place)
            # What was there and is not any more is no empty store: somebody moved or deleted the folder.
            (self._root.parent if store is None else self._root / user_id / context_name).stat()
            return store or self._opened(*place)

    def _opened(self, user_id: str, context_name: str, name: str) -> Store:
        collection = Collection(self._folder(user_id, context_name))
        secret = self._secret or (self._own_key() if name == SECRETS else None)
        store = self._open[user_id, context_name, name] = collection.db_get_create(name, secret=secret)
        while len(self._open) > _KEPT_OPEN:
            self._open.pop(next(iter(self._open)))
        return store

    def _own_key(self) -> Secret:
        path = self._root / _KEY_FILE
        try:
            return Secret(path.read_text("ascii"))
        except FileNotFoundError:
            self._root.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{_KEY_FILE}-{os.urandom(6).hex()}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(os.urandom(32).hex())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(beside, path)  # the first to come decides; a second one made meanwhile is dropped
        except FileExistsError:
            pass
        finally:
            beside.unlink()
        sync_folder(self._root)  # before anything is sealed with it
        return Secret(path.read_text("ascii"))


def session_store(session_id: str) -> str:
    """Return the name of a session's own store."""
    return f"{_SESSION}{session_id}"


def keys(store: Store, prefix: str, after: str, limit: int) -> list[str]:
    """Return up to `limit` keys that begin with `prefix`, sorted, those behind `after` only."""
    return list(islice(store.keys(prefix, after), limit))


def _within(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing, where it is taken away meanwhile."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
