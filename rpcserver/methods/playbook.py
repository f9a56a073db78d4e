"""session.playbook_add, playbook_priorities_add, playbook_find, heroscript and play. Source: seeds.md P10 to P14."""

from contextlib import aclosing
from typing import Any

import orjson

from heroscript.filters import ActionFilter
from jobs.errors import JobEnded
from rpcserver.errors import PlayRunning
from rpcserver.openrpc import examples
from rpcserver.playbooks import player, sources
from rpcserver.playbooks import rows as playbooks
from rpcserver.playbooks.adding import Along
from rpcserver.playbooks.heroscript import session_text
from rpcserver.playbooks.sources import Actions, Source
from rpcserver.rpc import errors, replies
from rpcserver.rpc.calls import method
from rpcserver.schemas.playbook import (
    Added,
    AddParams,
    FindParams,
    HeroscriptParams,
    PlaybookPage,
    Played,
    PlayParams,
    PrioritiesParams,
    SourceParams,
)
from rpcserver.services import Call
from rpcserver.sessions import contexts
from rpcserver.sessions.rows import Session
from store import Tx

FETCH_TIMEOUT_S = 3600.0
DAY_S = 24 * 3600.0


@method(
    "session.playbook_add",
    AddParams,
    timeout_s=FETCH_TIMEOUT_S,
    result=Added,
    errors=errors.SCRIPT,
    examples=examples.ADD,
)
async def add(call: Call, params: AddParams) -> dict[str, Any]:
    """Add the actions of a text, of a file or folder the operator allowed, or of a url; a mistake adds nothing.

    `added` says how many; `actions` shows the first 200 of them.
    """
    session = await call.session(params.session_id)
    actions = await _read(call, session, params)
    first = await call.services.adding.add(session, actions, call.authority.stored)
    told = await call.services.store.read(lambda tx: playbooks.first_shown(tx, session.id, first - 1))
    return {"added": actions.count, "actions": told}


@method(
    "session.playbook_priorities_add",
    PrioritiesParams,
    result=dict[str, str],
    errors=(*errors.STORAGE, *errors.SESSION, "PLAYBOOK_TOO_LARGE"),
    examples=examples.PRIORITIES,
)
async def priorities_add(call: Call, params: PrioritiesParams) -> dict[str, str]:
    """Register filters by number, the lowest is played first, 50 is for the rest; return what is in force."""
    session = await call.session(params.session_id)
    given = {int(number): filters for number, filters in params.priorities.items()}
    found = await call.services.store.write(lambda tx: playbooks.priorities_add(tx, session.id, given))
    call.services.player.note_change(session.id, is_order=True)
    return {str(number): filters for number, filters in found.items()}


@method(
    "session.playbook_find",
    FindParams,
    is_change=False,
    result=PlaybookPage,
    errors=(*errors.SESSION, "INVALID_CURSOR"),
    examples=examples.FIND,
)
async def find(call: Call, params: FindParams) -> dict[str, Any]:
    """Return the actions a filter such as `gittools.*` matches, in the order they were added."""
    session = await call.session(params.session_id)
    scope = ("playbook", session.id, params.filter, params.include_done)
    position = call.services.cursors.decode(params.cursor, *scope)
    after = position[0] if position else 0
    numbers: list[int] = []
    wanted = ActionFilter(params.filter)
    async with aclosing(
        call.services.scanner.actions(session.id, include_done=params.include_done, after=after)
    ) as pages:
        async for page in pages:
            numbers += [number for number, actor, name in page if wanted.matches(actor, name)]
            if len(numbers) > params.limit:
                break
    found = await call.services.store.read(lambda tx: _shown(tx, session.id, numbers[: params.limit]))
    cursor = call.services.cursors.encode([found[-1]["number"]], *scope) if len(numbers) > len(found) else None
    return {"items": found, "next_cursor": cursor}


def _shown(tx: Tx, session_id: str, numbers: list[int]) -> list[dict[str, Any]]:
    """Return as many of these actions as an answer has room for; one at the least."""
    found: list[dict[str, Any]] = []
    size = 0
    for number in numbers:
        step = playbooks.read(tx, session_id, number)
        if step is None:
            continue
        size += step.size
        if found and size > playbooks.SHOWN_BYTES:
            break
        found.append(playbooks.shown(step))
    return found


@method(
    "session.heroscript",
    HeroscriptParams,
    is_change=False,
    result=str,
    errors=errors.SESSION,
    examples=examples.PICTURE,
)
async def heroscript(call: Call, params: HeroscriptParams) -> str:
    """Return the session and its playbook as heroscript: played in another session, it makes both again."""
    session = await call.session(params.session_id)
    home, most = call.principal.user.home_set_id, call.settings.max_response_bytes
    about = await call.services.store.read(lambda tx: session_text(tx, session, home))
    return about + await call.services.scanner.text(session.id, params.show_done, most)


@method(
    "session.play",
    PlayParams,
    timeout_s=DAY_S,
    result=Played,
    errors=(*errors.SCRIPT, "UNKNOWN_ACTION", "PLAY_RUNNING"),
    examples=examples.PLAY,
)
async def play(call: Call, params: PlayParams) -> dict[str, Any]:
    """Play what is not done yet, in the order of the priorities, as one job, until an action fails.

    An action nobody plays stops it before it begins, and nothing is added. `dry_run` says who would play what, and
    adds nothing either; `detach` does not wait.
    """
    session = await call.session(params.session_id)
    services = call.services
    running = services.player.playing.get(session.id)
    if running is not None and not params.dry_run:
        raise PlayRunning(running)
    actions = await _read(call, session, params) if params.has_source else Actions()
    await services.player.check(session.id, params.filter, actions)
    if params.dry_run:
        left, results = await services.player.handlers(session.id, params.filter, actions)
        return {"job_id": None, "done": 0, "failed": 0, "left": left, "results": results}
    context = await services.store.read(lambda tx: contexts.find(tx, session.core_user_id, session.context_name))
    data = player.PlayData(session_id=session.id, filter=params.filter)
    is_interactive = bool(session.is_interactive) and (context is None or bool(context.is_interactive))
    request = call.job_request(session.id, is_interactive=is_interactive)

    async def submit(along: Along | None = None) -> str:
        return await call.submit(player.PLAY, data, request, along=along)

    job_id = await (
        services.adding.submit(session, actions, call.authority.stored, submit) if actions.count else submit()
    )
    if params.detach:
        return {"job_id": job_id, "state": "queued"}
    return await _result(call, job_id)


async def _result(call: Call, job_id: str) -> dict[str, Any]:
    with call.runner.audience.watched(job_id, call.progress):
        row = await call.runner.wait(job_id, call.patience_s)
    if row.state in ("failed", "cancelled", "lost"):
        raise JobEnded(job_id, orjson.loads(row.error or "{}"))
    if row.state != "succeeded":
        return {"job_id": job_id, "state": row.state, "next": replies.wait_for(job_id)}
    return {"job_id": job_id, **orjson.loads(row.result or "{}")}


async def _read(call: Call, session: Session, params: SourceParams) -> Actions:
    source = Source(
        params.text,
        params.path,
        params.url,
        params.prio,
        params.git_branch,
        params.git_pull,
        params.git_reset,
        params.replace,
    )
    return await read(call, session.context_name, session.coderoot, source, session.id)


async def read(
    call: Call, context_name: str, coderoot: str | None, source: Source, session_id: str | None = None
) -> Actions:
    """Return the actions of a source for a session of the caller's in this context; nothing is stored."""
    services, user_id = call.services, call.user_id
    if coderoot is None:
        context = await services.store.read(lambda tx: contexts.find(tx, user_id, context_name))
        coderoot = context.coderoot if context else None
    folder = sources.code_folder(services.settings, user_id, context_name, coderoot)
    return await services.sources.read(source, call.job_request(session_id), folder)


METHODS = (add, priorities_add, find, heroscript, play)
