"""Adds to a session's playbook and takes away, in pieces: other users' writes come in between.

Actions are staged behind those there are, a few hundred in a transaction, and count from the last one on: a killed
server, or a caller who gave up, leaves none that count.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from core.errors import QuotaExceeded
from rpcserver.errors import PlaybookTooLarge
from rpcserver.events.log import Events
from rpcserver.playbooks import rows as playbooks
from rpcserver.playbooks.player import Player
from rpcserver.playbooks.sources import Actions, Written
from rpcserver.sessions.rows import Session
from rpcserver.settings import Settings
from store import Store, Tx

T = TypeVar("T")
Along = Callable[[Tx], Any]  # what is done in somebody's transaction

PIECE = 250  # rows written at once: a millisecond's work or two


class Adding:
    """Adds actions, one call at a time for each session."""

    def __init__(self, settings: Settings, store: Store, events: Events, player: Player) -> None:
        self._settings = settings
        self._store = store
        self._events = events
        self._player = player
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def add(self, session: Session, actions: Actions, authority: str) -> int:
        """Add actions, tell of it, and return the number of the first. Raises PlaybookTooLarge or QuotaExceeded.

        Args:
            authority: by whose credentials they are brought, as rows have it.
        """
        async with self._lock(session.id):
            if actions.count <= PIECE:
                first = await self._at_once(session, actions, authority, self._store.write)
            else:
                first = await self._in_pieces(session, actions, authority)
            self._player.note_change(session.id)
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
            self._player.note_change(session.id)
        return done

    async def clear(self, session_id: str) -> None:
        """Delete a session's words and its playbook, in pieces; that counts no more from the first on."""
        while await self._store.write(lambda tx: playbooks.forget_words(tx, session_id, PIECE)):
            pass
        while await self._store.write(lambda tx: playbooks.clear(tx, session_id, 0, PIECE)):
            pass

    async def _in_pieces(self, session: Session, actions: Actions, authority: str) -> int:
        store, session_id = self._store, session.id
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
        if await self._store.read(lambda tx: playbooks.is_littered(tx, session.id)):
            await self._cleared(session, actions)

        def add(tx: Tx) -> int:
            first = self._begin(tx, session, actions)
            playbooks.stage(tx, session.id, first, written, authority)
            self._settle(tx, session, actions)
            return first

        return await write(add)

    async def _cleared(self, session: Session, actions: Actions) -> int:
        """Take away what was left when somebody gave up adding; return the number of the first action to add."""
        store = self._store
        first = await store.write(lambda tx: self._begin(tx, session, actions))
        while await store.write(lambda tx: playbooks.clear(tx, session.id, first - 1, PIECE)):
            pass
        return first

    def _lock(self, session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(session_id, asyncio.Lock())

    def _begin(self, tx: Tx, session: Session, actions: Actions) -> int:
        """Return the number of the first; there has to be room for all."""
        settings = self._settings
        count, size = playbooks.size(tx, session.id)
        if count + actions.count > settings.max_playbook_actions:
            limit = settings.max_playbook_actions
            message = f"The playbook would have more than {limit} actions, the most allowed: use another session."
            raise PlaybookTooLarge(message, limit=limit)
        if size + actions.size > settings.max_playbook_bytes:
            limit = settings.max_playbook_bytes
            message = f"The playbook would have more than {limit} bytes, the most allowed: use another session."
            raise PlaybookTooLarge(message, limit=limit)
        used = playbooks.bytes_of(tx, session.core_user_id)
        if used + actions.size > settings.max_playbook_bytes_per_user:
            advice = "destroy sessions whose playbooks are played"
            raise QuotaExceeded("max_playbook_bytes_per_user", settings.max_playbook_bytes_per_user, used, advice)
        return count + 1

    def _settle(self, tx: Tx, session: Session, actions: Actions) -> None:
        playbooks.settle(tx, session.id, actions.count, actions.size)
        data = {"session_id": session.id, "added": actions.count}
        self._events.append(tx, "playbook.changed", f"user:{session.core_user_id}", data)


def _stage(session_id: str, first: int, written: list[Written], authority: str, tx: Tx) -> None:
    playbooks.stage(tx, session_id, first, written, authority)
