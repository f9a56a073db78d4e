"""The door: whose a credential or ticket is, asked of our rows first and of other identity systems then.

An address that fails too often has to wait, whatever it brings. Source: protocol.md 1; promises S2.
"""

from collections.abc import Awaitable, Callable

import structlog

from core import users
from core.errors import CoreError
from core.users import User
from plugins.bus import Bus
from plugins.hooks import Identity
from rpcserver import auth, tickets
from rpcserver.auth import PREFIX, Principal
from rpcserver.credentials import Credentials
from rpcserver.errors import Unauthenticated
from rpcserver.meters import Attempts
from rpcserver.refusals import RateLimited
from rpcserver.tickets import TICKET_PREFIX
from store import Store

log = structlog.get_logger("auth")

WINDOW_S = 60.0
UNKNOWN = "The credential is unknown, revoked or expired: ask the operator for another."


class Entrance:
    """Lets people in.

    Args:
        credentials: keeps those that are found.
        make_user: makes a user another system vouches for, where it says that he may be made.
        max_failed_per_minute: attempts an address may fail in a minute.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        credentials: Credentials,
        make_user: Callable[[str], Awaitable[User]],
        max_failed_per_minute: int,
    ) -> None:
        self._store = store
        self._bus = bus
        self._credentials = credentials
        self._make_user = make_user
        self._attempts = Attempts(max_failed_per_minute, WINDOW_S)

    async def identify(self, text: str, address: str) -> Principal:
        """Return whose the credential is.

        Raises Unauthenticated, AccountFrozen to whoever has a good one, or RateLimited for an address that fails often.
        """
        self._check(address)
        principal = await self._credentials.looked_up(self._found(text))
        return principal or self._refuse(address)

    async def redeem(self, ticket: str, address: str) -> Principal:
        """Return whose the ticket is, and take it: it opens once. Raises as `identify` does."""
        self._check(address)
        redeemed = self._store.write(lambda tx: tickets.redeem(tx, ticket))
        return await self._credentials.looked_up(redeemed) or self._refuse(address)

    async def _found(self, text: str) -> Principal | None:
        principal = await self._store.read(lambda tx: auth.find(tx, text))
        if principal is None and not text.startswith((PREFIX, TICKET_PREFIX)):
            principal = await self._vouched_for(text)
        return principal

    async def _vouched_for(self, text: str) -> Principal | None:
        found = await self._bus.identity(text)
        if found is None:
            return None
        guest, identity = found
        if identity.expires_at is not None and identity.expires_at <= self._store.clock.now_ms():
            return None
        user = await self._store.read(lambda tx: users.find_by_name(tx, identity.user_name))
        if user is None and identity.may_be_made:
            user = await self._made(guest, identity)
        if user is None:
            log.info("stranger_refused", plugin=guest, user=identity.user_name)
            return None
        return auth.vouched(user, identity.label or guest, identity.scopes, self._store.clock, identity.expires_at)

    async def _made(self, guest: str, identity: Identity) -> User | None:
        try:
            return await self._make_user(identity.user_name)
        except CoreError as error:
            log.warning("user_not_made", plugin=guest, user=identity.user_name, reason=str(error))
            return None

    def _check(self, address: str) -> None:
        wait_s = self._attempts.wait_s(address)
        if wait_s:
            raise RateLimited(wait_s, "Too many attempts failed from this address: wait before the next.")

    def _refuse(self, address: str) -> Principal:
        # Again: of many attempts at once only the first few learn anything.
        self._check(address)
        self._attempts.note(address)
        log.warning("credential_refused", address=address)
        raise Unauthenticated(UNKNOWN)
