"""The door: whose a credential or ticket is, asked of our rows first and of other identity systems then.

What is known to be good gets in from anywhere, and what is known to be over is told so. Only what nobody knows is a
guess: an address that brings many different ones has to wait. Source: protocol.md 1; promises.md S2.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog

from core import users
from core.errors import CoreError
from core.users import User
from jobs.errors import CredentialExpired, CredentialRevoked
from plugins.hooks import Identity
from plugins.manager import Bus
from rpcserver.auth import authenticator, ended, tickets
from rpcserver.auth.authenticator import PREFIX, Principal, hash_of
from rpcserver.auth.credentials import Credentials
from rpcserver.auth.tickets import TICKET_PREFIX
from rpcserver.errors import RateLimited, TicketSpent, Unauthenticated
from rpcserver.ratelimit import Attempts
from store import Store, Tx

log = structlog.get_logger("auth")

WINDOW_S = 60.0
UNKNOWN = "The credential is unknown: ask the operator for another."
VOUCHED = 10_000  # credentials of other systems that are remembered as good


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
        self._vouched: OrderedDict[str, None] = OrderedDict()  # hashes, the last ones

    async def identify(self, text: str, address: str) -> Principal:
        """Return whose the credential is.

        Raises CredentialEnded for one that is over, Unauthenticated for an unknown one, or RateLimited for one more
        from an address that brings many of those.
        """
        principal = await self._credentials.looked_up(self._found(text, address))
        return principal or self._refuse(text, address)

    async def redeem(self, ticket: str, address: str) -> Principal:
        """Return whose the ticket is, and take it: it opens once. Raises as `identify` does."""
        principal = None
        # Looked for first: what is only read costs no commit, and strangers ask for it.
        if await self._store.read(lambda tx: tickets.is_there(tx, ticket)):
            redeemed = self._store.write(lambda tx: tickets.redeem(tx, ticket))
            principal = await self._credentials.looked_up(redeemed)
        if principal is None:
            await self._store.read(lambda tx: _tell_why(tx, ticket))
        return principal or self._refuse(ticket, address)

    async def _found(self, text: str, address: str) -> Principal | None:
        def look(tx: Tx) -> Principal | None:
            principal = authenticator.find(tx, text)
            if principal is None:
                _tell_why(tx, text)
            return principal

        principal = await self._store.read(look)
        if principal is None and not text.startswith((PREFIX, TICKET_PREFIX)):
            key = hash_of(text)
            # Others are asked for what was good before, and else not more often than may be guessed.
            if key not in self._vouched and self._attempts.wait_s(address, key):
                return None
            principal = await self._vouched_for(text)
            if principal is not None:
                self._vouched[key] = None
                self._vouched.move_to_end(key)
                if len(self._vouched) > VOUCHED:
                    self._vouched.popitem(last=False)
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
        return authenticator.vouched(
            user, identity.label or guest, identity.scopes, self._store.clock, identity.expires_at
        )

    async def _made(self, guest: str, identity: Identity) -> User | None:
        try:
            return await self._make_user(identity.user_name)
        except CoreError as error:
            log.warning("user_not_made", plugin=guest, user=identity.user_name, reason=str(error))
            return None

    def _refuse(self, text: str, address: str) -> Principal:
        key = hash_of(text)
        wait_s = self._attempts.wait_s(address, key)
        if wait_s:
            raise RateLimited(wait_s, "Too many different credentials of this address were wrong: wait for the next.")
        self._attempts.note(address, key)
        log.warning("credential_refused", address=address)
        raise Unauthenticated(UNKNOWN)


def _tell_why(tx: Tx, text: str) -> None:
    """Raise what has become of a credential or ticket that opens nothing, if that is known."""
    why = "expired" if authenticator.find_id(tx, text) else ended.why(tx, hash_of(text))
    if why == "revoked":
        raise CredentialRevoked
    if why is not None and text.startswith(TICKET_PREFIX):
        raise TicketSpent(why)
    if why is not None:
        raise CredentialExpired
