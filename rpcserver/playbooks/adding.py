"""Adds to a session's playbook and takes away, in pieces: other users' writes come in between.

Actions are staged behind those there are, a few hundred in a transaction, and count from the last one on: a killed
server, or a caller who gave up, leaves none that count.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from core.errors import QuotaExceeded
from rpcserver.playbooks import rows as playbooks
from rpcserver.playbooks.sources import Actions, Written
from rpcserver.rpc.errors import INVALID_PARAMS, RESPONSE_TOO_LARGE, RpcError
from rpcserver.sessions.rows import Session
from store import Tx

if TYPE_CHECKING:
    from rpcserver.app import App

T = TypeVar("T")
Along = Callable[[Tx], Any]  # what is done in somebody's transaction

PIECE = 250  # rows written at once: a millisecond's work or two
SCANNED = 500  # rows looked at in one turn of the loop
SHOWN = 200  # actions told at once; playbook_find tells them all
SHOWN_BYTES = 512 * 1024  # and of those only as many as are not longer than this


class Adding:
    """Adds actions, one call at a time for each session."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def add(self, session: Session, actions: Actions, authority: str) -> int:
        """Add actions, tell of it, and return the number of the first. Raises RpcError or QuotaExceeded.

        Args:
            authority: by whose credentials they are brought, as rows have it.
        """
        async with self._lock(session.id):
            if actions.count <= PIECE:
                first = await self._at_once(session, actions, authority, self._app.store.write)
            else:
                first = await self._in_pieces(session, actions, authority)
            self._app.player.note_change(session.id)
        return first

    async def submit(
        self, session: Session, actions: Actions, authority: str, submit: Callable[[Along], Awaitable[T]]
    ) -> T:
        """Add actions and return what `submit(along)` does, which stores a job: few actions are added with its row."""
        if actions.count > PIECE:
            await self.add(session, actions, authority)
            return await submit(lambda tx: None)
        async with self._lock(session.id):
            done = await self._at_once(session, actions, authority, submit)
            self._app.player.note_change(session.id)
        return done

    async def clear(self, session_id: str) -> None:
        """Delete a session's words and its playbook, in pieces; that counts no more from the first on."""
        while await self._app.store.write(lambda tx: playbooks.forget_words(tx, session_id, PIECE)):
            pass
        while await self._app.store.write(lambda tx: playbooks.clear(tx, session_id, 0, PIECE)):
            pass

    async def _in_pieces(self, session: Session, actions: Actions, authority: str) -> int:
        store, session_id = self._app.store, session.id
        at = first = await self._cleared(session, actions)
        for piece in actions.pieces():
            await store.write(partial(_stage, session_id, at, piece, authority))
            at += len(piece)
        await store.write(lambda tx: self._settle(tx, session, actions))
        return first

    async def _at_once(
        self, session: Session, actions: Actions, authority: str, write: Callable[[Callable[[Tx], int]], Awaitable[T]]
    ) -> T:
        written = [one for piece in actions.pieces() for one in piece]
        if await self._app.store.read(lambda tx: playbooks.is_littered(tx, session.id)):
            await self._cleared(session, actions)

        def add(tx: Tx) -> int:
            first = self._begin(tx, session, actions)
            playbooks.stage(tx, session.id, first, written, authority)
            self._settle(tx, session, actions)
            return first

        return await write(add)

    async def _cleared(self, session: Session, actions: Actions) -> int:
        """Take away what was left when somebody gave up adding; return the number of the first action to add."""
        store = self._app.store
        first = await store.write(lambda tx: self._begin(tx, session, actions))
        while await store.write(lambda tx: playbooks.clear(tx, session.id, first - 1, PIECE)):
            pass
        return first

    def _lock(self, session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(session_id, asyncio.Lock())

    def _begin(self, tx: Tx, session: Session, actions: Actions) -> int:
        """Return the number of the first; there has to be room for all."""
        settings = self._app.settings
        count, size = playbooks.size(tx, session.id)
        if count + actions.count > settings.max_playbook_actions:
            limit = settings.max_playbook_actions
            message = f"The playbook would have more than {limit} actions, the most allowed: use another session."
            raise RpcError(INVALID_PARAMS, "PLAYBOOK_TOO_LARGE", message, limit=limit)
        if size + actions.size > settings.max_playbook_bytes:
            limit = settings.max_playbook_bytes
            message = f"The playbook would have more than {limit} bytes, the most allowed: use another session."
            raise RpcError(INVALID_PARAMS, "PLAYBOOK_TOO_LARGE", message, limit=limit)
        used = playbooks.bytes_of(tx, session.core_user_id)
        if used + actions.size > settings.max_playbook_bytes_per_user:
            advice = "destroy sessions whose playbooks are played"
            raise QuotaExceeded("max_playbook_bytes_per_user", settings.max_playbook_bytes_per_user, used, advice)
        return count + 1

    def _settle(self, tx: Tx, session: Session, actions: Actions) -> None:
        playbooks.settle(tx, session.id, actions.count, actions.size)
        data = {"session_id": session.id, "added": actions.count}
        self._app.events.append(tx, "playbook.changed", f"user:{session.core_user_id}", data)


def shown(tx: Tx, session_id: str, after: int) -> list[dict[str, Any]]:
    """Return the first actions behind a number, as they are told to whoever added them."""
    found: list[dict[str, Any]] = []
    size = 0
    for step in playbooks.first_of(tx, session_id, after, SHOWN):
        size += step.size
        if found and size > SHOWN_BYTES:
            break
        found.append(playbooks.shown(step))
    return found


async def scanned(
    app: "App", session_id: str, *, include_done: bool = False, after: int = 0
) -> AsyncGenerator[list[tuple[int, str, str]], None]:
    """Yield number, actor and name of a playbook's actions, some in each turn of the loop."""

    async def page(after: int) -> list[tuple[int, str, str]]:
        return await app.store.read(lambda tx: playbooks.page(tx, session_id, after, SCANNED, include_done))

    found = await page(after)
    yield found
    if len(found) < SCANNED:
        return
    async with app.pools.scans.place():
        while len(found) == SCANNED:
            await asyncio.sleep(0)
            found = await page(found[-1][0])
            yield found


def _stage(session_id: str, first: int, written: list[Written], authority: str, tx: Tx) -> None:
    playbooks.stage(tx, session_id, first, written, authority)


def _texts(session_id: str, after: int, include_done: bool, tx: Tx) -> list[tuple[int, str]]:
    return playbooks.texts(tx, session_id, after, SCANNED, include_done)


async def playbook_text(app: "App", session_id: str, include_done: bool, most: int) -> str:
    """Return a playbook as heroscript. Raises RpcError when it has more than `most` bytes."""
    parts: list[str] = []
    size = after = 0
    async with app.pools.scans.place():
        while found := await app.store.read(partial(_texts, session_id, after, include_done)):
            await asyncio.sleep(0)
            after = found[-1][0]
            parts += [text for _, text in found]
            size += sum(len(text) for _, text in found)
            if size > most:
                message = f"The playbook has more than {most} bytes, the most of an answer: see session.playbook_find."
                raise RpcError(RESPONSE_TOO_LARGE, "RESPONSE_TOO_LARGE", message)
    return "\n".join(parts)
