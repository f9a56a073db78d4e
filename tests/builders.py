"""Small builders: a core in one transaction, a socket without the client, a guest in a file, a dump of the rows."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect

from core import users
from core.calls import Scene
from core.users import User
from rpcserver.client import Client
from store import Store, Tx

T = TypeVar("T")

NOT_THE_WORLD = {"jobs", "events", "server_values"}


async def make_user(store: Store, name: str) -> User:
    """Make a user of the core."""
    return await store.write(lambda tx: users.create(Scene(tx, "operator"), name))


async def as_user(store: Store, user: User, fn: Callable[[Scene], T]) -> T:
    """Run `fn(scene)` in a transaction, in the user's name."""
    return await store.write(lambda tx: fn(Scene(tx, user.id)))


async def make_place(client: Client, name: str = "shelf", **options: Any) -> str:
    """Make a set below the client's home and return its id."""
    home = (await client.call("auth.whoami"))["home_set"]
    return str(await client.call("core.set.create", name=name, parent_id=home, **options))


async def dump(store: Store, without: set[str] = NOT_THE_WORLD) -> dict[str, list[Any]]:
    """Return every row of every table, those that only record what was tried left out."""

    def rows(tx: Tx) -> dict[str, list[Any]]:
        tables = [row[0] for row in tx.all("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {table: sorted(tx.all(f"SELECT * FROM {table}")) for table in tables if table not in without}  # noqa: S608

    return await store.read(rows)


class Wire:
    """A socket that speaks exactly what it is told."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    @classmethod
    async def open(cls, url: str, credential: str | None = None, **options: Any) -> "Wire":
        """Connect and hear the hello."""
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        headers.update(options.pop("additional_headers", {}))
        options = {"compression": None, "max_size": None, "proxy": None, "additional_headers": headers, **options}
        wire = cls(await connect(url, **options))
        wire.hello = await wire.receive()
        return wire

    async def receive(self) -> Any:
        """Return the next message."""
        return json.loads(await self.socket.recv())

    async def send(self, frame: str | bytes | dict[str, Any] | list[Any]) -> None:
        """Send a frame: text or bytes as they are, anything else as JSON."""
        await self.socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def ask(self, frame: str | bytes | dict[str, Any] | list[Any]) -> Any:
        """Send a frame and return the next message."""
        await self.send(frame)
        return await self.receive()

    async def call(self, method: str, params: Any = None, id: Any = 1) -> Any:
        """Send a call and return its response, passing over notifications."""
        message = {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}
        answer = await self.ask(message)
        while "method" in answer:
            answer = await self.receive()
        return answer

    async def close(self) -> None:
        """Close the socket."""
        await self.socket.close()


def write_guest(folder: Path, name: str, code: str) -> Path:
    """Write a one-file guest and return its path."""
    path = folder / f"{name}.py"
    path.write_text(GUEST_IMPORTS + textwrap.dedent(code), encoding="utf-8")
    return path


GUEST_IMPORTS = """
import asyncio
from pydantic import BaseModel, SecretStr
from rpcserver.plugin import Action, Command, Commit, JobContext, JobError, Move, Pallet, hookimpl, job, method

class Nothing(BaseModel):
    pass

"""
