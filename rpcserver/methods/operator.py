"""operator.*: what the command line asks of the server that has the data folder open; and server.maintenance.

Only the holder of the secret in the folder's `running.json`, which the operator alone can read, may call these.
"""

from pathlib import Path
from typing import Any

from rpcserver.auth import authenticator, credentials, tickets
from rpcserver.events.log import EVERYBODY
from rpcserver.methods.credential import listed
from rpcserver.rpc.dispatcher import Call, method
from rpcserver.rpc.refusals import Maintenance
from rpcserver.schemas.access import (
    BackupParams,
    CredentialParams,
    DeferParams,
    ImportParams,
    MaintenanceParams,
    NewUserParams,
    OperatorCredentialParams,
    OperatorListParams,
    OperatorTicketParams,
)
from rpcserver.schemas.playbook import GiveBackParams, LendParams
from rpcserver.schemas.results import CredentialPage, Imported, NewLimitedCredential, OperatorTicket
from store import Tx


@method(
    "operator.user_add",
    NewUserParams,
    is_operator=True,
    has_secret=True,
    result=str,
    errors=("BAD_NAME", "NAME_TAKEN"),
)
async def user_add(call: Call, params: NewUserParams) -> str:
    """Add a user and return the credential."""
    return await call.app.add_user(params.name)


@method("operator.user_defer", DeferParams, is_operator=True, result=bool, errors=("USER_NOT_FOUND", "BAD_APPROVER"))
async def user_defer(call: Call, params: DeferParams) -> bool:
    """Have a user's long jobs wait for the approval of another; without one, let them all go."""
    await call.app.defer_user(params.name, params.approver)
    return True


@method("operator.import", ImportParams, is_operator=True, timeout_s=24 * 3600, result=Imported)
async def import_(call: Call, params: ImportParams) -> dict[str, Any]:
    """Import a folder, or with `format` json a world file, of the server's machine for a user."""
    if params.format == "json":
        return await call.app.import_world(Path(params.path), params.user, params.into)
    return await call.app.import_tree(
        Path(params.path), params.user, params.into, params.public, call.progress, tuple(params.exclude)
    )


@method(
    "operator.credential_create",
    OperatorCredentialParams,
    is_operator=True,
    has_secret=True,
    result=NewLimitedCredential,
    errors=("USER_NOT_FOUND",),
)
async def credential_create(call: Call, params: OperatorCredentialParams) -> dict[str, Any]:
    """Make a credential in a user's name and return its id and its text, which is shown this once."""
    user = await call.app.user_named(params.user)
    return await call.app.issue(user.id, await call.app.terms(params))


@method(
    "operator.credentials_list",
    OperatorListParams,
    is_operator=True,
    is_change=False,
    result=CredentialPage,
    errors=("USER_NOT_FOUND", "INVALID_CURSOR"),
)
async def credentials_list(call: Call, params: OperatorListParams) -> dict[str, Any]:
    """Return the credentials of a user, or of everybody."""
    user_id = None if params.user is None else (await call.app.user_named(params.user)).id
    return await listed(call, params, user_id)


@method(
    "operator.credential_revoke",
    CredentialParams,
    is_operator=True,
    result=bool,
    errors=("CREDENTIAL_NOT_FOUND",),
)
async def credential_revoke(call: Call, params: CredentialParams) -> bool:
    """Revoke a credential, whoever's it is, and close its connections."""
    await call.app.revoke(params.credential_id, None)
    call.app.server.close_ended()
    return True


@method(
    "operator.ticket",
    OperatorTicketParams,
    is_operator=True,
    has_secret=True,
    result=OperatorTicket,
    errors=("USER_NOT_FOUND",),
)
async def ticket(call: Call, params: OperatorTicketParams) -> dict[str, Any]:
    """Make a one-shot ticket for a user's page; the connection it opens has a credential of its own, to be revoked."""
    app = call.app
    user = await app.user_named(params.user)

    def make(tx: Tx) -> dict[str, Any]:
        terms = credentials.Terms("ticket", expires_in_s=params.life_s)
        credential_id, _ = credentials.issue(tx, user.id, terms)
        principal = authenticator.find_by_id(tx, credential_id)
        assert principal is not None  # made just now
        text, expires_at = tickets.issue(tx, principal, app.settings.ticket_life_s)
        return {"ticket": str(text), "expires_at": expires_at, "credential_id": credential_id}

    return await app.store.write(make)


@method("server.maintenance", MaintenanceParams, is_operator=True, result=bool)
async def maintenance(call: Call, params: MaintenanceParams) -> bool:
    """Refuse every call but the operator's, or take them again; running calls finish. A restart ends it, too."""
    app = call.app
    retry_after_ms = int(params.retry_after_s * 1000)
    data = {"on": params.on, "message": params.message, "retry_after_ms": retry_after_ms}
    app.dispatcher.maintenance = Maintenance(params.message, retry_after_ms) if params.on else None
    await app.store.write(lambda tx: app.events.append(tx, "server.maintenance", EVERYBODY, data))
    return params.on


@method("operator.backup", BackupParams, is_operator=True, timeout_s=24 * 3600, result=int, errors=("BACKUP_FAILED",))
async def backup(call: Call, params: BackupParams) -> int:
    """Back the data folder up into a new file of the server's machine, and return its size in bytes."""
    return await call.app.back_up(Path(params.path))


@method("operator.lend", LendParams, is_operator=True, result=str, errors=("USER_NOT_FOUND",))
async def lend(call: Call, params: LendParams) -> str:
    """Return a credential of a user for the command line, by default of the first user."""
    return str(await call.app.lend(params.name))


@method("operator.give_back", GiveBackParams, is_operator=True, result=bool)
async def give_back(call: Call, params: GiveBackParams) -> bool:
    """End a credential that was lent."""
    return await call.app.give_back(params.credential)


METHODS = (
    user_add,
    user_defer,
    import_,
    backup,
    credential_create,
    credentials_list,
    credential_revoke,
    ticket,
    maintenance,
    lend,
    give_back,
)
