"""Command tokens: how they stand in the pallet, and what happens when one is run and no guest claims it.

Source: sessions.md 1.2 (command pallet), 2.7, 4.4.
"""

import math
from typing import Any

import structlog

from core.commands import TokenCommand
from jobs.errors import FORESEEN
from jobs.functions.attributes import Ran, RunCommand, SortCommands
from jobs.functions.session import Listing
from jobs.model import Request
from plugins.hooks import Command
from rpcserver.rpc.dispatcher import Call
from rpcserver.sessions.rows import Session

log = structlog.get_logger("session")

HANDLER = "default"  # who is named when no guest handled a command


def offered(listing: Listing) -> list[Command]:
    """Return the command tokens of a place as pallet entries; one whose place is not known yet stands last."""
    return [_entry(command) for command in listing.commands]


def find_order(call: Call, session: Session, listing: Listing) -> None:
    """Have the places of commands found out that are not known or long known, behind the listing."""
    stale = [command.id for command in listing.commands if command.is_stale]
    sorting = call.app.sorting
    if stale and session.id not in sorting:
        sorting.add(session.id)
        call.app.spawn(_find_order(call, session, SortCommands(token_ids=stale, set_id=listing.place.id)))


async def run(call: Call, session: Session, command: Command, value: Any, if_match: int | None) -> dict[str, Any]:
    """Run a command token: its write attribute gets the value, its read attribute answers."""
    data = RunCommand(
        token_id=command.id, set_id=session.place, value=value, data_set_id=session.data_set_id, if_match=if_match
    )
    ran: Ran = await call.app.runner.run("command.run", data, _request(call, session))
    last = ran.read or ran.written
    response: dict[str, Any] = {"value": last.value if last else None, "state": last.state if last else "ok"}
    if last is not None and last.activity_id is not None:
        response["activity_id"] = last.activity_id
    if last is not None and last.job_id is not None:
        response["job_id"] = last.job_id
    if ran.written is not None:
        response["written"] = ran.written.value
    return response


async def _find_order(call: Call, session: Session, data: SortCommands) -> None:
    app = call.app
    try:
        await app.runner.run("command.sort", data, _request(call, session))
        notice = {"session_id": session.id}
        await app.store.write(
            lambda tx: app.events.append(tx, "session.pallet_changed", f"user:{session.core_user_id}", notice)
        )
    except FORESEEN as error:
        log.info("commands_not_sorted", session_id=session.id, reason=str(error))
    finally:
        app.sorting.discard(session.id)


def _entry(command: TokenCommand) -> Command:
    sort = math.inf if command.sort is None else command.sort
    return Command(command.id, command.name, command.description, command.accepts, sort, command.set_id)


def _request(call: Call, session: Session) -> Request:
    return call.job_request(session.id, is_interactive=bool(session.is_interactive))
