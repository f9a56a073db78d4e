"""Command pallets: their versions, how command tokens stand in them, and what happens when no plugin claims one.

Source: sessions.md 1.2 (command pallet), 2.7, 4.4.
"""

import hashlib
import math
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from core.commands import TokenCommand
from jobs.engine import JobRunner
from jobs.errors import FORESEEN
from jobs.functions.attributes import Ran, RunCommand, SortCommands
from jobs.functions.session import Listing
from jobs.model import Request
from plugins.hooks import Command
from rpcserver.events.log import Events
from rpcserver.rpc.calls import Call
from rpcserver.sessions.rows import Session
from store import Store

log = structlog.get_logger("session")

HANDLER = "default"  # who is named when no plugin handled a command


class Pallets:
    """The version each session's pallet has reached, and what it held, in memory; and the command tokens' own job.

    Versions begin at the time of the start: one told before it is not told again for other commands.

    Args:
        spawn: starts a task that ends with the server.
    """

    def __init__(
        self, store: Store, runner: JobRunner, events: Events, spawn: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._store = store
        self._runner = runner
        self._events = events
        self._spawn = spawn
        self._first = store.clock.now_ms()
        self._known: dict[str, tuple[int, bytes]] = {}
        self._sorting: set[str] = set()  # sessions whose commands' places are being found out

    def version(self, session: Session, pallet: list[Command]) -> int:
        """Return the pallet's version: a greater number whenever the commands are others."""
        digest = hashlib.blake2b(repr(pallet).encode(), digest_size=16).digest()
        version, before = self._known.get(session.id, (self._first, b""))
        if digest != before:
            version += 1
            self._known[session.id] = (version, digest)
        return version

    def forget(self, session_id: str) -> None:
        """Forget a session that is gone."""
        self._known.pop(session_id, None)

    def find_order(self, call: Call, session: Session, listing: Listing) -> None:
        """Have the places of commands found out that are not known or long known, behind the listing."""
        stale = [command.id for command in listing.commands if command.is_stale]
        if stale and session.id not in self._sorting:
            self._sorting.add(session.id)
            data = SortCommands(token_ids=stale, set_id=listing.place.id)
            self._spawn(self._find_order(_request(call, session), session, data))

    async def _find_order(self, request: Request, session: Session, data: SortCommands) -> None:
        try:
            await self._runner.run("command.sort", data, request)
            notice = {"session_id": session.id}
            await self._store.write(
                lambda tx: self._events.append(tx, "session.pallet_changed", f"user:{session.core_user_id}", notice)
            )
        except FORESEEN as error:
            log.info("commands_not_sorted", session_id=session.id, reason=str(error))
        finally:
            self._sorting.discard(session.id)


def offered(listing: Listing) -> list[Command]:
    """Return the command tokens of a place as pallet entries; one whose place is not known yet stands last."""
    return [_entry(command) for command in listing.commands]


async def run(call: Call, session: Session, command: Command, value: Any, if_match: int | None) -> dict[str, Any]:
    """Run a command token: its write attribute gets the value, its read attribute answers."""
    data = RunCommand(
        token_id=command.id, set_id=session.place, value=value, data_set_id=session.data_set_id, if_match=if_match
    )
    ran: Ran = await call.runner.run("command.run", data, _request(call, session))
    last = ran.read or ran.written
    response: dict[str, Any] = {"value": last.value if last else None, "state": last.state if last else "ok"}
    if last is not None and last.activity_id is not None:
        response["activity_id"] = last.activity_id
    if last is not None and last.job_id is not None:
        response["job_id"] = last.job_id
    if ran.written is not None:
        response["written"] = ran.written.value
    return response


def _entry(command: TokenCommand) -> Command:
    sort = math.inf if command.sort is None else command.sort
    return Command(command.id, command.name, command.description, command.accepts, sort, command.set_id)


def _request(call: Call, session: Session) -> Request:
    return call.job_request(session.id, is_interactive=bool(session.is_interactive))
