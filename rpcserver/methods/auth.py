"""auth.authenticate and auth.whoami."""

from typing import Any

from rpcserver import auth, examples
from rpcserver.auth import Principal
from rpcserver.dispatch import Call, method
from rpcserver.errors import BUSY, RpcError, Unauthenticated
from rpcserver.models import AuthenticateParams, NoParams
from rpcserver.results import Identity


@method(
    "auth.authenticate",
    AuthenticateParams,
    needs_auth=False,
    result=Identity,
    errors=("UNAUTHENTICATED", "TOO_MANY_CONNECTIONS"),
    examples=examples.AUTHENTICATE,
)
async def authenticate(call: Call, params: AuthenticateParams) -> dict[str, Any]:
    """Tell the server who is calling. One connection is one user for its life."""
    principal = await call.app.store.read(lambda tx: auth.find(tx, params.credential))
    if principal is None:
        raise Unauthenticated("The credential is unknown, revoked or expired: ask the operator for another.")
    held = call.connection.principal
    if held is not None and held.user.id != principal.user.id:
        raise Unauthenticated("This connection is another user's: open a new one.")
    await call.app.server.admit(call.connection, principal)
    return _identity(principal)


@method("auth.whoami", NoParams, result=Identity, examples=examples.WHOAMI)
def whoami(call: Call, params: NoParams) -> dict[str, Any]:
    """Return the calling user and how far the credential reaches."""
    return _identity(call.principal)


def too_many(limit: int) -> RpcError:
    """Return the error for one connection too many."""
    return RpcError(BUSY, "TOO_MANY_CONNECTIONS", f"You have {limit} connections, the most allowed: close one first.")


def _identity(principal: Principal) -> dict[str, Any]:
    return {
        "user_id": principal.user.id,
        "name": principal.user.name,
        "home_set": principal.user.home_set_id,
        "landing_set": principal.user.landing_set_id,
        "label": principal.label,
        "scopes": list(principal.scopes),
        "expires_at": principal.expires_at,
    }


METHODS = (authenticate, whoami)
