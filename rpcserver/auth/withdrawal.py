"""Takes back what a credential brought, once it has ended: what runs, what waits, what would come. Decision 19.

Nothing depends on how fast this is: whatever a credential brought is asked again whenever it is about to do something.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from jobs.authority import ENDED, End, Grant
from rpcserver.auth import authenticator, credentials
from store import StoreError, Tx
from store.roundrobin import OWNER

if TYPE_CHECKING:
    from rpcserver.app import App

log = structlog.get_logger("auth")

AT_ONCE = 100  # credentials that one transaction finds expired
BEARERS_EVERY_S = 1.0


class Withdrawal:
    """Ends what was done by credentials that are revoked or have expired, and holds what is done for frozen users."""

    def __init__(self, app: "App") -> None:
        self._app = app
        self._ended: deque[tuple[Grant, End]] = deque()
        self._is_somebody_let_go = False
        self._wake = asyncio.Event()

    def end(self, tx: Tx, grant: Grant, end: End) -> None:
        """Tell a credential's owner that it has ended; from the commit on nothing is done by it."""
        data = {"credential_id": grant.id, "label": grant.label, "reason": end}
        self._app.events.append(tx, "credential.ended", f"user:{grant.user_id}", data)
        tx.after_commit(lambda: self._note(grant, end))

    def freeze(self, user_id: str, is_frozen: bool) -> None:
        """Have nothing done in a user's name, or go on with what waited for them to be let go."""
        app = self._app
        if is_frozen:
            app.credentials.ended(user_id, "frozen")
            app.runner.stop_ended()
            app.server.close_ended()
        else:
            app.credentials.let_go(user_id)
            self._is_somebody_let_go = True
            self._wake.set()

    async def settle(self, user_ids: Iterable[str]) -> None:
        """Wait until what was being stored in these users' names is: whoever ended a credential relies on the answer.

        Between the commit that ends a credential and the moment at which the loop hears of it, its other writes may
        be handed over. Those of one user are stored in the order they came, so that an empty one comes behind them.
        """
        for user_id in user_ids:
            owner = OWNER.set(user_id)
            try:
                await self._app.store.write(lambda tx: None, is_record=True)
            finally:
                OWNER.reset(owner)

    async def run(self) -> None:
        """Take back what ended credentials brought, and watch the others expire, until cancelled."""
        app, loop = self._app, asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            self._wake.clear()
            try:
                # By a clock that somebody has set just now nothing is taken back that could not be given back.
                while app.clock.is_settled and await app.store.read(credentials.is_any_expired):
                    await app.store.write(self._expire_some)
                await self._take_back()
            except StoreError as error:
                # Whatever it is, it is asked again before it starts.
                log.warning("work_not_taken_back", reason=str(error))
            if loop.time() - looked_at >= BEARERS_EVERY_S:
                # Those of other systems have no row that tells when they end.
                looked_at = loop.time()
                app.runner.stop_ended()
            with suppress(TimeoutError):
                async with asyncio.timeout(app.settings.expiry_check_s):
                    await self._wake.wait()

    async def _take_back(self) -> None:
        while self._ended:
            grant, end = self._ended[0]
            await self._app.runner.take_back(grant.id, ENDED[end](grant.id, grant.label))
            self._ended.popleft()
        if self._is_somebody_let_go:
            self._is_somebody_let_go = False
            await self._app.runner.take_up()

    def _expire_some(self, tx: Tx) -> None:
        for grant in authenticator.grants_expired(tx, AT_ONCE):
            self.end(tx, grant, "expired")

    def _note(self, grant: Grant, end: End) -> None:
        self._app.credentials.ended(grant.id, end)
        self._app.runner.stop_ended()
        self._ended.append((grant, end))
        self._wake.set()
