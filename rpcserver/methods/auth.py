"""auth.*: who is calling, and for how long."""

from typing import Any

from rpcserver.auth import credentials, tickets
from rpcserver.auth.authenticator import Principal
from rpcserver.errors import NotRenewable, Unauthenticated
from rpcserver.openrpc import examples
from rpcserver.rpc.calls import method
from rpcserver.schemas.access import AuthenticateParams, LogoutParams, RefreshParams
from rpcserver.schemas.results import Identity, Ticket
from rpcserver.schemas.session import NoParams
from rpcserver.services import Call
from store import Tx


@method(
    "auth.authenticate",
    AuthenticateParams,
    needs_auth=False,
    is_own=True,
    is_change=False,
    result=Identity,
    errors=("UNAUTHENTICATED", "ACCOUNT_FROZEN", "RATE_LIMITED", "TOO_MANY_CONNECTIONS"),
    examples=examples.AUTHENTICATE,
)
async def authenticate(call: Call, params: AuthenticateParams) -> dict[str, Any]:
    """Tell the server who is calling, with a credential or a one-shot ticket.

    One connection is one user for its life; another credential of the same user takes the place of the first.
    """
    entrance, address = call.services.entrance, call.client.address
    if params.ticket is not None:
        principal = await entrance.redeem(params.ticket, address)
    else:
        assert params.credential is not None  # the model asks for one of the two
        principal = await entrance.identify(params.credential, address)
    return await _become(call, principal)


@method("auth.ticket", NoParams, is_own=True, has_secret=True, result=Ticket, examples=examples.TICKET)
async def ticket(call: Call, params: NoParams) -> dict[str, Any]:
    """Make a ticket that opens one connection as this one, once, within the time told; for a page to connect with."""
    life_s = call.settings.ticket_life_s
    text, expires_at = await call.services.store.write(lambda tx: tickets.issue(tx, call.principal, life_s))
    return {"ticket": str(text), "expires_at": expires_at}


@method(
    "auth.refresh",
    RefreshParams,
    is_open=True,
    is_own=True,
    is_ordered=True,
    is_change=False,
    result=Identity,
    errors=("NOT_RENEWABLE", "RATE_LIMITED"),
    examples=examples.REFRESH,
)
async def refresh(call: Call, params: RefreshParams) -> dict[str, Any]:
    """Extend this connection's time: with another credential of the same user, or by renewing a renewable one."""
    if params.credential is not None:
        return await _become(call, await call.services.entrance.identify(params.credential, call.client.address))
    held, services = call.principal.grant, call.services
    if not held.id:
        raise NotRenewable

    def renew(tx: Tx) -> None:
        expires_at = credentials.renew(tx, held.id)
        tx.after_commit(lambda: services.credentials.renewed(held.id, expires_at))

    await services.store.write(renew)
    return _identity(call.principal)


@method("auth.logout", LogoutParams, is_open=True, is_own=True, is_change=False, result=bool, examples=examples.LOGOUT)
async def logout(call: Call, params: LogoutParams) -> bool:
    """Close this connection after the answer; with `revoke` the credential is revoked and all its connections close."""
    held, services = call.principal.grant, call.services
    if params.revoke and held.id:
        await services.withdrawal.revoke(held.id, held.user_id)
        call.after_reply(services.connections.close_ended)
    else:
        call.after_reply(call.client.log_out)
    return True


@method("auth.whoami", NoParams, is_open=True, is_change=False, result=Identity, examples=examples.WHOAMI)
def whoami(call: Call, params: NoParams) -> dict[str, Any]:
    """Return the calling user and how far the credential reaches."""
    return _identity(call.principal)


async def _become(call: Call, principal: Principal) -> dict[str, Any]:
    held = call.connection.principal
    if held is not None and held.user.id != principal.user.id:
        raise Unauthenticated("This connection is another user's: open a new one.")
    await call.client.become(principal)
    return _identity(principal)


def _identity(principal: Principal) -> dict[str, Any]:
    return {
        "user_id": principal.user.id,
        "name": principal.user.name,
        "home_set": principal.user.home_set_id,
        "credential_id": principal.grant.id or None,
        "label": principal.grant.label,
        "holder": principal.holder,
        "scopes": list(principal.grant.scopes),
        "expires_at": principal.grant.expires_at,
    }


METHODS = (authenticate, ticket, refresh, logout, whoami)
