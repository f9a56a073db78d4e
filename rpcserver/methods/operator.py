"""operator.*: what the command line asks of the server that has the data folder open.

Only the holder of the secret in the folder's `running.json`, which the operator alone can read, may call these.
"""

from pathlib import Path
from typing import Any

from rpcserver.dispatch import Call, method
from rpcserver.models import BackupParams, DeferParams, ImportParams, NewUserParams
from rpcserver.play_models import GiveBackParams, LendParams
from rpcserver.results import Imported


@method("operator.user_add", NewUserParams, is_operator=True, result=str, errors=("BAD_NAME", "NAME_TAKEN"))
async def user_add(call: Call, params: NewUserParams) -> str:
    """Add a user and return the credential."""
    return await call.app.add_user(params.name)


@method("operator.user_defer", DeferParams, is_operator=True, result=bool, errors=("USER_NOT_FOUND",))
async def user_defer(call: Call, params: DeferParams) -> bool:
    """Have a user's long jobs wait for the approval of another."""
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


METHODS = (user_add, user_defer, import_, backup, lend, give_back)
