"""The operator's commands on a data folder: through the running server, or directly when none runs."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson

from rpcserver import backup
from rpcserver.app import App, job_specs, load_plugins, opened
from rpcserver.auth import credentials
from rpcserver.client import CallError, Client
from rpcserver.rpc.errors import RpcError
from rpcserver.schemas.access import OperatorCredentialParams
from rpcserver.sessions import views
from rpcserver.settings import RUNNING, Settings
from store import StoreError, StoreLocked

T = TypeVar("T")


class OperatorError(StoreError):
    """The running server refused."""


def add_user(settings: Settings, name: str) -> str:
    """Add a user and return the credential."""
    answer = _operate(settings, "operator.user_add", {"name": name}, lambda app: app.add_user(name))
    return str(answer)


def defer_user(settings: Settings, name: str, approver: str | None) -> None:
    """Have a user's long jobs wait for another's approval, or, with None, no more."""
    params = {"name": name, "approver": approver}
    _operate(settings, "operator.user_defer", params, lambda app: app.defer_user(name, approver))


def list_users(settings: Settings) -> list[dict[str, Any]]:
    """Return every user, the oldest first."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        params = {"limit": 200, **({"cursor": cursor} if cursor else {})}
        page = _operate(settings, "core.user.list", params, lambda app: app.all_users())
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def freeze_user(settings: Settings, name: str, is_frozen: bool) -> None:
    """Freeze a user, or let him move again; a running server closes his connections."""
    params = {"name": name, "is_frozen": is_frozen}
    _operate(settings, "core.user.freeze", params, lambda app: app.freeze_user(name, is_frozen))


def import_tree(
    settings: Settings, path: Path, user: str, into: str | None, is_public: bool, exclude: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Import a folder, showing how far it is, and return `{set_id, sets, tokens}`."""
    params = {
        "path": str(path.resolve()),
        "user": user,
        "into": into,
        "public": is_public,
        "exclude": list(exclude),
    }
    with _Bar() as bar:
        answer: dict[str, Any] = _operate(
            settings,
            "operator.import",
            params,
            lambda app: app.import_tree(path, user, into, is_public, bar.show, exclude),
            bar.show,
        )
    for where, what in answer["problems"]:
        print(f"{where!r}: {what}", file=sys.stderr)
    left = answer["problem_count"] - len(answer["problems"])
    if left > 0:
        print(f"and {left} more", file=sys.stderr)
    return {name: answer[name] for name in ("set_id", "sets", "tokens")}


def create_credential(settings: Settings, params: dict[str, Any]) -> str:
    """Make a credential and return its text."""

    async def directly(app: App) -> Any:
        given = OperatorCredentialParams(**params)
        return await app.issue((await app.user_named(given.user)).id, await app.terms(given))

    return str(_operate(settings, "operator.credential_create", params, directly)["credential"])


def list_credentials(settings: Settings, user: str | None) -> list[dict[str, Any]]:
    """Return every credential of a user, or of everybody."""

    async def directly(app: App) -> Any:
        user_id = None if user is None else (await app.user_named(user)).id
        return await app.store.read(lambda tx: {"items": credentials.page(tx, user_id, 2**31, None)})

    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        params = {"limit": 200, **({"user": user} if user else {}), **({"cursor": cursor} if cursor else {})}
        page = _operate(settings, "operator.credentials_list", params, directly)
        found += orjson.loads(orjson.dumps(page["items"]))
        cursor = page.get("next_cursor")
        if cursor is None:
            return found


def revoke_credential(settings: Settings, credential_id: str) -> None:
    """Revoke a credential; a running server closes its connections."""

    async def directly(app: App) -> None:
        await app.store.write(lambda tx: credentials.revoke(tx, credential_id, None))

    _operate(settings, "operator.credential_revoke", {"credential_id": credential_id}, directly)


def ask_running(settings: Settings, method: str, params: dict[str, Any]) -> Any:
    """Ask the running server; without one there is nothing to ask."""

    async def directly(app: App) -> Any:
        raise OperatorError("No server runs on this data folder: start one with `rpcserver serve`.")

    return _operate(settings, method, params, directly)


def back_up(settings: Settings, file: Path) -> int:
    """Back the data folder up into a file, and return its size in bytes."""
    file = file.absolute()
    size: int = _operate(settings, "operator.backup", {"path": str(file)}, lambda app: app.back_up(file))
    return size


def restore(settings: Settings, file: Path, is_replacing: bool) -> Path | None:
    """Make the data folder from a backup, and return where what was in it lies now."""
    return backup.restore(file.absolute(), settings.data.absolute(), is_replacing=is_replacing)


def import_world(settings: Settings, path: Path, user: str, into: str | None) -> dict[str, Any]:
    """Make a world of a world file and return the ids of what was made, by their keys in the file."""
    params = {"path": str(path.resolve()), "user": user, "into": into, "format": "json"}
    answer = _operate(settings, "operator.import", params, lambda app: app.import_world(path.resolve(), user, into))
    made = ("groups", "types", "scripts", "remotes")
    return {name: held for name, held in answer.items() if held or name not in made}


def plugin_names(settings: Settings) -> list[str]:
    """Return the names of the plugins that would be loaded."""
    return load_plugins(settings).names


def job_functions(settings: Settings) -> list[dict[str, Any]]:
    """Return every job function, as `jobs.functions` tells it."""
    specs = job_specs(load_plugins(settings), None)
    return [views.job_function(spec) for spec in sorted(specs, key=lambda spec: spec.name)]


def _operate(
    settings: Settings,
    method: str,
    params: dict[str, Any],
    directly: Callable[[App], Awaitable[Any]],
    on_progress: Callable[[float, float | None, str], None] | None = None,
) -> Any:
    async def without_server() -> Any:
        async with opened(settings) as app:
            return await directly(app)

    try:
        return asyncio.run(without_server())
    except RpcError as error:
        raise OperatorError(error.message) from error
    except StoreLocked as locked:
        note = settings.data / RUNNING
        if not note.exists():
            raise
        reach = json.loads(note.read_text("utf-8"))
        try:
            return asyncio.run(_ask(reach, method, params, on_progress))
        except CallError as error:
            raise OperatorError(str(error)) from locked


async def _ask(
    reach: dict[str, Any],
    method: str,
    params: dict[str, Any],
    on_progress: Callable[[float, float | None, str], None] | None,
) -> Any:
    async with Client(reach["url"], reach["operator"], timeout_s=24 * 3600) as client:
        return await client.call(method, on_progress=on_progress, **params)


class _Bar:
    """A progress bar on standard error: how much is done and how fast; the end is not known in one pass."""

    def __enter__(self) -> "_Bar":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task("importing", total=None)
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, done: float, total: float | None, message: str) -> None:
        """Show how far it is."""
        self._progress.update(self._task, completed=done, total=total, description=f"importing: {message}")
