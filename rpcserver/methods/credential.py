"""credentials.list, credential.create, credential.revoke and credential.log: a user's own, and those of his agents."""

from dataclasses import replace
from typing import Any

from jobs.authority import EVERYTHING, Grant
from rpcserver.auth import authenticator, credentials
from rpcserver.auth.authenticator import OPERATORS_SCOPES, Secret
from rpcserver.auth.credentials import Terms
from rpcserver.errors import CredentialLimit, ScopeTooWide
from rpcserver.openrpc import examples
from rpcserver.rpc import errors
from rpcserver.rpc.calls import method
from rpcserver.schemas.access import CreateCredentialParams, CredentialLogParams, CredentialParams, TermsParams
from rpcserver.schemas.job import PageParams
from rpcserver.schemas.results import CredentialPage, LogPage, NewLimitedCredential
from rpcserver.services import Call
from store import Tx


@method(
    "credentials.list",
    PageParams,
    is_change=False,
    result=CredentialPage,
    errors=("INVALID_CURSOR",),
    examples=examples.CREDENTIALS,
)
async def list_(call: Call, params: PageParams) -> dict[str, Any]:
    """Return the credentials that act in the caller's name, the oldest first, with what was used of them."""
    return await listed(call, params, call.user_id)


@method(
    "credential.create",
    CreateCredentialParams,
    is_own=True,
    has_secret=True,
    result=NewLimitedCredential,
    errors=(*errors.STORAGE, "SCOPE_TOO_WIDE", "CREDENTIAL_LIMIT", "USER_NOT_FOUND", "ANSWER_NOT_KEPT"),
    examples=examples.CREDENTIAL_CREATE,
)
async def create(call: Call, params: CreateCredentialParams) -> dict[str, Any]:
    """Make a credential that acts in the caller's name and return its text, which is shown this once.

    It reaches no further than the one it is made with: not in scopes, not in time; a counted one makes none. One made
    with a narrow credential is revoked with that.
    """
    made_with = call.principal.grant
    _check_reach(made_with, params)
    # A narrow one takes those it made along when it is revoked; who may do everything has no need of others for that.
    made_by = None if made_with.scopes == EVERYTHING and made_with.holder_id is None else made_with.id or None
    terms = replace(await terms_of(call, params), made_by=made_by)
    return await issue(call, call.user_id, terms, call.settings.max_credentials_per_user)


@method(
    "credential.revoke",
    CredentialParams,
    result=bool,
    errors=(*errors.STORAGE, "CREDENTIAL_NOT_FOUND"),
    examples=examples.CREDENTIAL_REVOKE,
)
async def revoke(call: Call, params: CredentialParams) -> bool:
    """Revoke one of the caller's credentials: its connections close, and only those."""
    await call.services.withdrawal.revoke(params.credential_id, call.user_id)
    call.after_reply(call.services.connections.close_ended)
    return True


@method(
    "credential.log",
    CredentialLogParams,
    is_change=False,
    result=LogPage,
    errors=("CREDENTIAL_NOT_FOUND", "INVALID_CURSOR"),
    examples=examples.CREDENTIAL_LOG,
)
async def log(call: Call, params: CredentialLogParams) -> dict[str, Any]:
    """Return the calls made with a limited credential of the caller's, the newest first."""
    scope = ("calls", call.user_id, params.credential_id)
    position = call.services.cursors.decode(params.cursor, *scope)
    before = position[0] if position else None
    found = await call.services.store.read(
        lambda tx: credentials.calls_of(tx, params.credential_id, call.user_id, params.limit + 1, before)
    )
    return _page(call, found, params.limit, "id", scope)


async def listed(call: Call, params: PageParams, user_id: str | None) -> dict[str, Any]:
    """Return a page of a user's credentials, or of everybody's."""
    scope = ("credentials", user_id)
    position = call.services.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    found = await call.services.store.read(lambda tx: credentials.page(tx, user_id, params.limit + 1, after))
    return _page(call, found, params.limit, "credential_id", scope)


async def user_id_of(call: Call, name: str) -> str:
    """Return the id of the user of a name. Raises UserNotFound."""
    return await call.services.store.read(lambda tx: authenticator.user_named(tx, name).id)


async def issue(call: Call, user_id: str, terms: Terms, limit: int | None = None) -> dict[str, Any]:
    """Make a credential and return its id and its text, which is shown this once.

    Raises CredentialLimit when there are as many in the user's name as the limit says.
    """

    def issue(tx: Tx) -> tuple[str, Secret]:
        if limit is not None and credentials.count(tx, user_id) >= limit:
            raise CredentialLimit(limit)
        return credentials.issue(tx, user_id, terms)

    credential_id, text = await call.services.store.write(issue)
    return {"credential_id": credential_id, "credential": str(text)}


async def terms_of(call: Call, params: TermsParams) -> Terms:
    """Return the terms of a credential to be made. Raises UserNotFound for an unknown holder."""
    holder_id = None if params.holder is None else await user_id_of(call, params.holder)
    return Terms(
        params.label,
        tuple(params.scopes),
        params.expires_in_s,
        params.renewable,
        params.max_calls,
        params.calls_per_interval,
        params.interval_s,
        holder_id,
        params.logged,
    )


def _check_reach(made_with: Grant, params: TermsParams) -> None:
    if made_with.is_metered:
        raise ScopeTooWide("is not counted")
    for scope in params.scopes:
        if not made_with.covers(scope) or (scope in OPERATORS_SCOPES and scope not in made_with.scopes):
            raise ScopeTooWide(f"reaches {scope!r}")
    if made_with.expires_at is not None:
        left_s = (made_with.expires_at - made_with.clock.now_ms()) / 1000
        if params.expires_in_s is None or params.expires_in_s > left_s or params.renewable:
            raise ScopeTooWide("lives longer")


def _page(call: Call, found: list[dict[str, Any]], limit: int, key: str, scope: tuple[Any, ...]) -> dict[str, Any]:
    page = found[:limit]
    next_cursor = call.services.cursors.encode([page[-1][key]], *scope) if len(found) > limit else None
    return {"items": page, "next_cursor": next_cursor}


METHODS = (list_, create, revoke, log)
