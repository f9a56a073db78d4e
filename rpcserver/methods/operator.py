"""operator.*: what the command line asks of the server that has the data folder open; and server.maintenance.

Only the holder of the secret in the folder's `running.json`, which the operator alone can read, may call these.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.authority import SERVER
from jobs.functions.core import OPERATOR
from jobs.model import Request
from rpcserver.auth import authenticator, credentials, tickets
from rpcserver.backup import write as back_up
from rpcserver.errors import Maintenance
from rpcserver.events.log import EVERYBODY
from rpcserver.methods.credential import issue, listed, terms_of, user_id_of
from rpcserver.rpc.calls import method
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
from rpcserver.services import Call
from store import Tx

SERVERS = Request(OPERATOR, SERVER)


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
    made: str = await call.runner.run("create_user", {"name": params.name}, SERVERS, then=_first_credential)
    return made


@method("operator.user_defer", DeferParams, is_operator=True, result=bool, errors=("USER_NOT_FOUND", "BAD_APPROVER"))
async def user_defer(call: Call, params: DeferParams) -> bool:
    """Have a user's long jobs wait for the approval of another; without one, let them all go."""
    approver_id = None if params.approver is None else await user_id_of(call, params.approver)
    await call.runner.defer(await user_id_of(call, params.name), approver_id)
    return True


@method("operator.import", ImportParams, is_operator=True, timeout_s=24 * 3600, result=Imported)
async def import_(call: Call, params: ImportParams) -> dict[str, Any]:
    """Import a folder, or with `format` json a world file, of the server's machine for a user."""
    data: dict[str, Any] = {"path": Path(params.path), "into": params.into}
    function = "import_world"
    if params.format == "folder":
        function = "import_tree"
        data |= {"is_public": params.public, "exclude": tuple(params.exclude)}
    request = Request(await user_id_of(call, params.user), SERVER)
    return asdict(await call.runner.run(function, data, request, on_progress=call.progress))


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
    return await issue(call, await user_id_of(call, params.user), await terms_of(call, params))


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
    user_id = None if params.user is None else await user_id_of(call, params.user)
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
    await _revoke(call, params.credential_id)
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
    services = call.services
    user_id = await user_id_of(call, params.user)

    def make(tx: Tx) -> dict[str, Any]:
        terms = credentials.Terms("ticket", expires_in_s=params.life_s)
        credential_id, _ = credentials.issue(tx, user_id, terms)
        principal = authenticator.find_by_id(tx, credential_id)
        assert principal is not None  # made just now
        text, expires_at = tickets.issue(tx, principal, services.settings.ticket_life_s)
        return {"ticket": str(text), "expires_at": expires_at, "credential_id": credential_id}

    return await services.store.write(make)


@method("server.maintenance", MaintenanceParams, is_operator=True, result=bool)
async def maintenance(call: Call, params: MaintenanceParams) -> bool:
    """Refuse every call but the operator's, or take them again; running calls finish. A restart ends it, too."""
    services = call.services
    retry_after_ms = int(params.retry_after_s * 1000)
    data = {"on": params.on, "message": params.message, "retry_after_ms": retry_after_ms}
    services.dispatcher.maintenance = Maintenance(params.message, retry_after_ms) if params.on else None
    await services.store.write(lambda tx: services.events.append(tx, "server.maintenance", EVERYBODY, data))
    return params.on


@method("operator.backup", BackupParams, is_operator=True, timeout_s=24 * 3600, result=int, errors=("BACKUP_FAILED",))
async def backup(call: Call, params: BackupParams) -> int:
    """Back the data folder up into a new file of the server's machine, and return its size in bytes."""
    services = call.services
    return await services.pools.backup.run(back_up, services.store.folder, Path(params.path))


@method("operator.lend", LendParams, is_operator=True, result=str, errors=("USER_NOT_FOUND",))
async def lend(call: Call, params: LendParams) -> str:
    """Return a credential of a user for the command line, by default of the first user.

    A folder without users gets an owner.
    """
    store = call.services.store
    lent = await store.write(lambda tx: authenticator.lend(tx, params.name))
    if lent is None:
        await call.runner.run("create_user", {"name": "owner"}, SERVERS)
        lent = await store.write(lambda tx: authenticator.lend(tx, "owner"))
    return str(lent)


@method("operator.give_back", GiveBackParams, is_operator=True, result=bool)
async def give_back(call: Call, params: GiveBackParams) -> bool:
    """End a credential that was lent."""
    credential_id = await call.services.store.read(lambda tx: authenticator.find_id(tx, params.credential))
    if credential_id is None:
        return False
    await _revoke(call, credential_id)
    return True


async def _revoke(call: Call, credential_id: str) -> None:
    await call.services.withdrawal.revoke(credential_id, None)
    call.services.connections.close_ended()


def _first_credential(tx: Tx, user: Any) -> str:
    return str(authenticator.issue(tx, user.id, "first credential"))


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
