"""The operator's commands on a data folder: through the running server, or directly when none runs."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from jobs.progress import OnProgress
from rpcserver import backup
from rpcserver.app import job_specs, load_plugins, opened
from rpcserver.client import CallError, Client
from rpcserver.errors import RpcError
from rpcserver.sessions import views
from rpcserver.settings import RUNNING, Settings
from store import StoreError, StoreLocked


class OperatorError(StoreError):
    """The running server refused."""


def add_user(settings: Settings, name: str) -> str:
    """Add a user and return the credential."""
    answer = _operate(settings, "operator.user_add", {"name": name})
    return str(answer)


def defer_user(settings: Settings, name: str, approver: str | None) -> None:
    """Have a user's long jobs wait for another's approval, or, with None, no more."""
    params = {"name": name, "approver": approver}
    _operate(settings, "operator.user_defer", params)


def list_users(settings: Settings) -> list[dict[str, Any]]:
    """Return every user, the oldest first."""
    return _pages(settings, "core.user.list", {})


def freeze_user(settings: Settings, name: str, is_frozen: bool) -> None:
    """Freeze a user, or let him move again; a running server closes his connections."""
    params = {"name": name, "is_frozen": is_frozen}
    _operate(settings, "core.user.freeze", params)


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
        answer: dict[str, Any] = _operate(settings, "operator.import", params, bar.show)
    for where, what in answer["problems"]:
        print(f"{where!r}: {what}", file=sys.stderr)
    left = answer["problem_count"] - len(answer["problems"])
    if left > 0:
        print(f"and {left} more", file=sys.stderr)
    return {name: answer[name] for name in ("set_id", "sets", "tokens")}


def create_credential(settings: Settings, params: dict[str, Any]) -> str:
    """Make a credential and return its text."""
    return str(_operate(settings, "operator.credential_create", params)["credential"])


def list_credentials(settings: Settings, user: str | None) -> list[dict[str, Any]]:
    """Return every credential of a user, or of everybody."""
    return _pages(settings, "operator.credentials_list", {"user": user} if user else {})


def revoke_credential(settings: Settings, credential_id: str) -> None:
    """Revoke a credential; a running server closes its connections."""
    _operate(settings, "operator.credential_revoke", {"credential_id": credential_id})


def ask_running(settings: Settings, method: str, params: dict[str, Any]) -> Any:
    """Ask the running server; without one there is nothing to ask."""
    return _operate(settings, method, params, needs_server=True)


def back_up(settings: Settings, file: Path) -> int:
    """Back the data folder up into a file, and return its size in bytes."""
    file = file.absolute()
    size: int = _operate(settings, "operator.backup", {"path": str(file)})
    return size


def restore(settings: Settings, file: Path, is_replacing: bool) -> Path | None:
    """Make the data folder from a backup, and return where what was in it lies now."""
    return backup.restore(file.absolute(), settings.data.absolute(), is_replacing=is_replacing)


def import_world(settings: Settings, path: Path, user: str, into: str | None) -> dict[str, Any]:
    """Make a world of a world file and return the ids of what was made, by their keys in the file."""
    params = {"path": str(path.resolve()), "user": user, "into": into, "format": "json"}
    answer = _operate(settings, "operator.import", params)
    made = ("groups", "types", "scripts", "remotes")
    return {name: held for name, held in answer.items() if held or name not in made}


def plugin_names(settings: Settings) -> list[str]:
    """Return the names of the plugins that would be loaded."""
    return load_plugins(settings).names


def job_functions(settings: Settings) -> list[dict[str, Any]]:
    """Return every job function, as `jobs.functions` tells it."""
    specs = job_specs(load_plugins(settings), None)
    return [views.job_function(spec) for spec in sorted(specs, key=lambda spec: spec.name)]


def _pages(settings: Settings, method: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what all pages of a list hold."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = _operate(settings, method, {"limit": 200, **params, **({"cursor": cursor} if cursor else {})})
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def _operate(
    settings: Settings,
    method: str,
    params: dict[str, Any],
    on_progress: OnProgress | None = None,
    *,
    needs_server: bool = False,
) -> Any:
    """Call a method as the operator: of the server that has the folder open, or of none but this process."""

    async def without_server() -> Any:
        async with opened(settings) as app:
            if needs_server:
                raise OperatorError("No server runs on this data folder: start one with `rpcserver serve`.")
            return await app.operate(method, on_progress=on_progress, **params)

    try:
        return asyncio.run(without_server())
    except RpcError as error:
        reason = error.details.get("reason")
        raise OperatorError(f"{error.message}: {reason}" if reason else error.message) from error
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
    on_progress: OnProgress | None,
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
