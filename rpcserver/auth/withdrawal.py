"""Takes back what a credential brought, once it has ended: what runs, what waits, what would come. Decision 19.

Nothing depends on how fast this is: whatever a credential brought is asked again whenever it is about to do something.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog

from core.users import User
from jobs.authority import ENDED, End, Grant
from jobs.engine import JobRunner
from rpcserver.auth import authenticator, credentials
from rpcserver.auth.credentials import Credentials
from store import Store, StoreError, Tx
from store.roundrobin import OWNER

log = structlog.get_logger("auth")

AT_ONCE = 100  # credentials that one transaction finds expired
BEARERS_EVERY_S = 1.0


class Withdrawal:
    """Ends what was done by credentials that are revoked or have expired, and holds what is done for frozen users.

    Args:
        append: adds an event to a transaction: its topic, whom it is for, and its data.
        close_ended: closes the connections of what has ended.
        check_s: seconds between two looks at what has expired.
    """

    def __init__(
        self,
        store: Store,
        runner: JobRunner,
        credentials: Credentials,
        *,
        append: Callable[[Tx, str, str, dict[str, Any]], None],
        close_ended: Callable[[], None],
        check_s: float,
    ) -> None:
        self._store = store
        self._clock = store.clock
        self._runner = runner
        self._credentials = credentials
        self._append = append
        self._close_ended = close_ended
        self._check_s = check_s
        self._ended: deque[tuple[Grant, End]] = deque()
        self._is_somebody_let_go = False
        self._wake = asyncio.Event()

    async def revoke(self, credential_id: str, user_id: str | None) -> None:
        """Revoke a credential in the user's name (None: in anybody's), with those a narrow one has made.

        From the moment it is stored nothing is done by it, nor by what it brought; its owner is told. Raises
        CredentialNotFound.
        """

        def revoke(tx: Tx) -> set[str]:
            ended = credentials.revoke(tx, credential_id, user_id)
            for grant in ended:
                self._end(tx, grant, "revoked")
            return {grant.user_id for grant in ended}

        await self.settle(await self._store.write(revoke))
        while await self._store.write(lambda tx: credentials.forget(tx, authenticator.REVOKED)):
            pass

    def froze(self, tx: Tx, user: User) -> None:
        """Have nothing done in a user's name, or let it go on, once the transaction is committed."""
        tx.after_commit(lambda: self._freeze(user.id, bool(user.is_frozen)))

    def _end(self, tx: Tx, grant: Grant, end: End) -> None:
        """Tell a credential's owner that it has ended; from the commit on nothing is done by it."""
        data = {"credential_id": grant.id, "label": grant.label, "reason": end}
        self._append(tx, "credential.ended", f"user:{grant.user_id}", data)
        tx.after_commit(lambda: self._note(grant, end))

    def _freeze(self, user_id: str, is_frozen: bool) -> None:
        if is_frozen:
            self._credentials.ended(user_id, "frozen")
            self._runner.stop_ended()
            self._close_ended()
        else:
            self._credentials.let_go(user_id)
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
                await self._store.write(lambda tx: None, is_record=True)
            finally:
                OWNER.reset(owner)

    async def run(self) -> None:
        """Take back what ended credentials brought, and watch the others expire, until cancelled."""
        loop = asyncio.get_running_loop()
        looked_at = loop.time()
        while True:
            self._wake.clear()
            try:
                # By a clock that somebody has set just now nothing is taken back that could not be given back.
                while self._clock.is_settled and await self._store.read(credentials.is_any_expired):
                    await self._store.write(self._expire_some)
                await self._take_back()
            except StoreError as error:
                # Whatever it is, it is asked again before it starts.
                log.warning("work_not_taken_back", reason=str(error))
            if loop.time() - looked_at >= BEARERS_EVERY_S:
                # Those of other systems have no row that tells when they end.
                looked_at = loop.time()
                self._runner.stop_ended()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._check_s):
                    await self._wake.wait()

    async def _take_back(self) -> None:
        while self._ended:
            grant, end = self._ended[0]
            await self._runner.take_back(grant.id, ENDED[end](grant.id, grant.label))
            self._ended.popleft()
        if self._is_somebody_let_go:
            self._is_somebody_let_go = False
            await self._runner.take_up()

    def _expire_some(self, tx: Tx) -> None:
        for grant in authenticator.grants_expired(tx, AT_ONCE):
            self._end(tx, grant, "expired")

    def _note(self, grant: Grant, end: End) -> None:
        self._credentials.ended(grant.id, end)
        self._runner.stop_ended()
        self._ended.append((grant, end))
        self._wake.set()
