"""Closes sessions whose end has come, as their user would: in turn with the session's other calls, and told."""

import asyncio

import structlog

from core import users
from jobs.errors import AccountFrozen
from rpcserver.auth import authenticator
from rpcserver.errors import RpcError
from rpcserver.rpc.dispatcher import Dispatcher
from rpcserver.sessions import rows as sessions
from store import Store, StoreError, pause

log = structlog.get_logger("app")

AT_ONCE = 20
WALL_CHECK_S = 1.0  # an end is a moment of the wall clock, which may be set at any time
AGAIN_S = 60.0  # after one that could not be closed


class Ends:
    """Looks which sessions are past their end, and destroys them."""

    def __init__(self, store: Store, dispatcher: Dispatcher) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = store.clock
        self._failed: dict[str, float] = {}  # session id -> when to try again
        self.wake = asyncio.Event()

    async def run(self) -> None:
        """Close what has ended, until cancelled."""
        while True:
            self.wake.clear()
            try:
                next_at = await self._store.read(sessions.next_end)
                if next_at is not None and next_at <= self._clock.now_ms() and self._clock.is_settled:
                    await self._close_some()
            except StoreError as error:
                log.warning("sessions_not_closed", reason=str(error))
                next_at = 0
            await pause(self.wake, None if next_at is None else self._left_s(next_at))

    def _left_s(self, next_at: int) -> float:
        left_s = (next_at - self._clock.now_ms()) / 1000
        return min(left_s, WALL_CHECK_S) if left_s > 0 else WALL_CHECK_S

    async def _close_some(self) -> None:
        now = self._clock.now_ms()
        ended = await self._store.read(lambda tx: sessions.ended(tx, now, AT_ONCE + len(self._failed)))
        later = {id: again_at for id, again_at in self._failed.items() if again_at > self._clock.monotonic()}
        self._failed = {id: later[id] for id, _ in ended if id in later}
        closing = [self._close(session_id, user_id) for session_id, user_id in ended if session_id not in later]
        await asyncio.gather(*closing)

    async def _close(self, session_id: str, user_id: str) -> None:
        user = await self._store.read(lambda tx: users.find(tx, user_id))
        if user is None:
            return
        try:
            principal = authenticator.vouched(user, "the end of the session", ("session.destroy",), self._clock, None)
            await self._dispatcher.call(principal, "session.destroy", {"session_id": session_id})
        except (RpcError, AccountFrozen) as error:
            log.warning("session_not_closed", session_id=session_id, reason=str(error))
            self._failed[session_id] = self._clock.monotonic() + AGAIN_S
