"""session.create, destroy, get, ls, cd, action, update.

Source: seeds.md S6 to S12.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson

from heroscript.errors import StoreError
from jobs.functions.session import DestroySession, Listing
from plugins.errors import PluginError
from plugins.hooks import Action, Command
from rpcserver.errors import InvalidParams, NotInPallet, RevisionConflict
from rpcserver.methods.playbook import read
from rpcserver.openrpc import examples
from rpcserver.playbooks import rows as playbooks
from rpcserver.playbooks.keyvalue import session_store
from rpcserver.playbooks.sources import Actions, Source, code_folder
from rpcserver.rpc import errors, replies
from rpcserver.rpc.calls import method
from rpcserver.schemas import session as models
from rpcserver.schemas.playbook import CreateParams
from rpcserver.schemas.results import Presence, SessionId, SessionPage
from rpcserver.schemas.session import (
    ActionParams,
    ActionResult,
    CdParams,
    DestroyParams,
    GetParams,
    ListSessionsParams,
    LsParams,
    SessionParams,
    SessionRecord,
    UpdateParams,
)
from rpcserver.services import Call
from rpcserver.sessions import contexts, navigation, pallet, views
from rpcserver.sessions import rows as sessions
from rpcserver.sessions.rows import NewSession, Session
from store import Tx


@method(
    "session.create",
    CreateParams,
    result=SessionId,
    errors=(*errors.LOOK, *errors.SCRIPT, "SESSION_NAME_TAKEN", "SESSION_LIMIT"),
    examples=examples.CREATE,
    timeout_s=3600.0,
)
async def create(call: Call, params: CreateParams) -> dict[str, Any]:
    """Make a session and return its id; it starts in `set_id`, else in the caller's home.

    Without a name it is called by the time, as `YYYY_MM_DD_HH_MM_SS`. A playbook is added, not yet played; one with
    mistakes makes no session.
    """
    clock = call.services.clock
    start_at, end_at = (contexts.moment(text or "", clock) for text in (params.start, params.end))
    _check_span(start_at or clock.now_ms(), end_at)
    options: dict[str, Any] = {"human": params.human}
    if params.filter is not None:
        options["filter"] = params.filter
    new = NewSession(
        call.user_id,
        params.name or "",
        params.context_name,
        params.interactive,
        contexts.read(params.params),
        call.authority.stored,
        options,
        params.coderoot,
        start_at or 0,
        end_at,
    )
    if params.coderoot is not None:
        code_folder(call.settings, call.user_id, params.context_name, params.coderoot)
    source = Source(params.playbook_text, params.playbook_path, params.playbook_url)
    is_given = any(value is not None for value in (source.text, source.path, source.url))
    actions = await read(call, params.context_name, params.coderoot, source) if is_given else Actions()

    def with_context(tx: Tx, session: Session) -> None:
        contexts.ensure(tx, call.user_id, params.context_name, call.settings.max_contexts_per_user)
        tx.after_commit(call.services.ends.wake.set)

    session = await call.services.navigation.create(call, new, params.set_id, with_context)
    if actions.count:
        try:
            await call.services.adding.add(session, actions, call.authority.stored)
        except BaseException:
            # It was asked for with its playbook: without it there is none.
            await asyncio.shield(_destroy(call, session))
            raise
    return await _filtered(call, "session_create", session, {"session_id": session.id})


@method(
    "session.destroy",
    DestroyParams,
    is_ordered=True,
    result=SessionId,
    errors=(*errors.JOB, *errors.SESSION),
    examples=examples.DESTROY,
)
async def destroy(call: Call, params: DestroyParams) -> dict[str, Any]:
    """Destroy a session: its job first, its row only after the job's success. A play of it is cancelled."""
    session = await call.session(params.session_id)
    return {"session_id": await _destroy(call, session)}


async def _destroy(call: Call, session: Session) -> str:
    services = call.services
    if session.state != "destroying":
        session = await services.store.write(
            lambda tx: services.sessions.changed(tx, sessions.set_state(tx, session.id, "destroying"))
        )

    is_ended = session.end_at is not None and session.end_at <= services.clock.now_ms()
    told = {"session_id": session.id, **({"reason": "ended"} if is_ended else {})}

    def remove(tx: Tx, left: tuple[str | None, bool]) -> str:
        playbooks.forget(tx, session.id)
        sessions.remove(tx, session.id)
        services.sessions.gone(tx, session)
        call.services.navigation.tell_guests(call, tx, "session_destroyed", session)
        services.events.append(tx, "session.destroyed", f"user:{session.core_user_id}", told)
        set_id, is_gone = left
        if set_id is not None and is_gone:
            call.services.navigation.tell_left(call, tx, set_id)
        return session.id

    await services.adding.clear(session.id)
    data = DestroySession(session_id=session.id, data_set_id=session.data_set_id, pallet_set_id=session.pallet_set_id)
    destroyed: str = await services.runner.run(
        "session.destroy_session", data, navigation.request_of(call, session), then=remove
    )
    services.navigation.pallets.forget(session.id)
    await services.stores.leave(session.core_user_id, session.context_name, session_store(session.id))
    services.connections.detach(session.core_user_id, session.id)
    if (playing := services.player.playing.get(session.id)) is not None:
        await services.runner.cancel(playing)  # last: it may be a script of its own that ends the session
    return destroyed


@method("session.get", GetParams, is_change=False, result=SessionRecord, errors=errors.LOOK, examples=examples.GET)
def get(call: Call, params: GetParams) -> dict[str, Any] | Awaitable[dict[str, Any]]:
    """Return the session's record; `include` adds its history and the tokens of its data set."""
    found = call.services.navigation.find_session(call, params.session_id)
    if isinstance(found, Session) and not params.include and not call.services.bus.has("session_get"):
        return views.session_record(found)
    return _get(call, found, params)


async def _get(call: Call, found: Session | Awaitable[Session], params: GetParams) -> dict[str, Any]:
    session = found if isinstance(found, Session) else await found
    record = views.session_record(session)
    if "history" in params.include:
        record["history"] = list(session.back)
    if "playbook" in params.include:
        record["playbook"] = await call.services.store.read(lambda tx: playbooks.summary(tx, session.id))
    if "data" in params.include and session.data_set_id is not None:
        record["data"] = await _remembered(call, session, session.data_set_id)
    return await _filtered(call, "session_get", session, record)


async def _filtered(call: Call, hook: str, session: Session, answer: dict[str, Any]) -> dict[str, Any]:
    if not call.services.bus.has(hook):
        return answer
    return await call.services.bus.answer(hook, navigation.view(call, session), answer)


async def _remembered(call: Call, session: Session, data_set_id: str) -> list[dict[str, Any]]:
    """Return what the session remembers where it stands: what it does elsewhere may fill whole pages before it."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        listing = await call.services.navigation.look(call, session, set_id=data_set_id, limit=200, after=after)
        tokens = views.contents(listing, session.id, None)["tokens"]
        found += views.remembered(tokens, session.place, call.services.clock)
        after = listing.next
        if after is None:
            return found


@method(
    "session.ls",
    LsParams,
    is_change=False,
    result=models.Listing,
    errors=(*errors.LOOK, "TOKEN_NOT_FOUND", "INVALID_CURSOR"),
    examples=examples.LS,
)
async def ls(call: Call, params: LsParams) -> dict[str, Any]:
    """List the working set, page by page, with the commands offered there; changes nothing.

    `set_id` looks into another set without going there; `token_id` tells more about one token.
    """
    session = await call.session(params.session_id)
    options = orjson.loads(session.options)
    is_human = bool(options.get("human")) if params.human is None else params.human
    scope = (session.id, params.set_id or session.place, params.kind, params.filter, params.order, is_human)
    query: dict[str, Any] = {
        "limit": params.limit,
        "after": call.services.cursors.decode(params.cursor, *scope),
        "kind": params.kind,
        "filter": params.filter or options.get("filter"),
        "order": params.order,
        "is_human": is_human,
        "token_id": params.token_id,
        "has_contents": "contents" in params.sections,
    }
    if params.set_id is not None:
        listing = await call.services.navigation.look(call, session, set_id=params.set_id, **query)
    else:
        session, listing = await call.services.navigation.look_here(call, session, **query)
    has_commands = "commands" in params.sections and listing.place.id == session.place
    cursor = call.services.cursors.encode(listing.next, *scope)
    onward = None
    if cursor is not None:
        onward = {"method": "session.ls", "params": _next_params(params, session.id, cursor)}
    answer = await _listing(call, session, listing, onward, has_commands)
    if "contents" not in params.sections:
        del answer["contents"]
    return await _filtered(call, "session_ls", session, answer)


@method(
    "session.cd",
    CdParams,
    is_ordered=True,
    result=models.Listing,
    errors=(*errors.LOOK, "LEAVE_REFUSED", "PLUGIN_ERROR", "REVISION_CONFLICT"),
    examples=examples.CD,
)
async def cd(call: Call, params: CdParams) -> dict[str, Any]:
    """Walk to another set and list it. A set that refuses leaves everything as it was, and says why."""
    session = await call.session(params.session_id)
    if params.if_revision is not None and params.if_revision != session.revision:
        raise RevisionConflict(session.revision)
    way = params.to or ("path" if params.path is not None else "cd")
    shown = _shown(session, params.limit)
    session, listing = await call.services.navigation.go(call, session, way, params.set_id, params.path, **shown)
    return await _filtered(call, "session_ls", session, await _arrival(call, session, listing, shown))


def _unfinished(job_id: str, state: str) -> dict[str, Any]:
    going_on = {"job": job_id, "state": state, "next": replies.wait_for(job_id)}
    return {"handled_by": None, "response": {}, **going_on, "pallet_version": None}


@method(
    "session.action",
    ActionParams,
    is_ordered=True,
    result=ActionResult,
    errors=(*errors.LOOK, "LEAVE_REFUSED", "PLUGIN_ERROR", "NOT_IN_PALLET"),
    examples=examples.ACTION,
    unfinished=_unfinished,
)
async def action(call: Call, params: ActionParams) -> dict[str, Any]:
    """Run a command of the pallet: guests hear of it one after another, and what each answers stands under its name.

    While a job of it asks a person, the other calls on the session go on, and neither the job's time nor the plugin's
    runs. When the call's own time is over first, `job` and its `state` are the answer: the action goes on by itself,
    `ask.answer` answers the question, and `next` waits for the job's end.
    """
    session = await call.session(params.session_id)
    session, listing = await call.services.navigation.look_here(call, session, has_contents=False)
    version, commands = await call.services.navigation.pallet(call, session, listing)
    command = _pick(session, params.token_id, version, commands)
    run = navigation.GuestJobs(call, session, params.detach)
    event = Action(navigation.view(call, session), command, params.token_id, params.value, dict(params.args), run)
    try:
        handled_by = await call.services.bus.action(event)
    except PluginError as error:
        error.job_id = run.last  # a job that outlasted the guest goes on: the caller may wait for it
        raise
    if handled_by is None and any(command.id == token.id for token in listing.commands):
        handled_by = pallet.HANDLER
        done = await pallet.run(call, session, command, params.value, params.if_match)
        event.response.update(done)
    if handled_by is None:
        raise PluginError(command.source, "session_action", f"offers {command.id!r} but did not handle it")
    answer: dict[str, Any] = {"handled_by": handled_by, "response": event.response}
    if run.last is not None:
        answer["job"] = run.last
    if event.move is not None:
        call.authority.require("session.cd")  # a plugin's command walks as far as its caller may
        shown = _shown(session, 50)
        way = event.move.to or "cd"
        session, listing = await call.services.navigation.go(call, session, way, event.move.set_id, **shown)
        arrival = await _arrival(call, session, listing, shown)
        version_now, told = arrival["pallet_version"], arrival["commands"]
        answer["listing"] = await _filtered(call, "session_ls", session, arrival)
        answer["working_set"] = session.working_set_id
    else:
        listing = await call.services.navigation.look(call, session, has_contents=False)
        version_now, commands = await call.services.navigation.pallet(call, session, listing)
        told = views.commands(session.id, commands)
    answer["pallet_version"] = version_now
    if version_now != version:
        answer["commands"] = told
    return answer


@method(
    "session.update",
    UpdateParams,
    is_ordered=True,
    result=SessionRecord,
    errors=(*errors.STORAGE, *errors.SESSION, "SESSION_NAME_TAKEN", "REVISION_CONFLICT", "KEYS_REFUSED"),
    examples=examples.UPDATE,
)
async def update(call: Call, params: UpdateParams) -> dict[str, Any]:
    """Change a session's name, options or params, if it is still at `if_revision`; return the record.

    `context_name` takes it to another context, unless it has values in its store, which stay where they are.
    """
    session = await call.session(params.session_id)
    given = params.model_dump(include={"name", "context_name", "options", "coderoot"}, exclude_none=True)
    context_name = params.context_name or session.context_name
    if context_name != session.context_name:
        await _leave_store(call, session)
    if params.interactive is not None:
        given["is_interactive"] = params.interactive
    if params.params is not None:
        given["params"], given["params_by"] = contexts.read(params.params), call.authority.stored
    services = call.services
    if params.start is not None:
        given["start_at"] = contexts.moment(params.start, services.clock) or session.created_at
    if params.end is not None:
        given["end_at"] = contexts.moment(params.end, services.clock)
    _check_span(given.get("start_at", session.start_at), given.get("end_at", session.end_at))
    if params.coderoot is not None:
        code_folder(services.settings, call.user_id, context_name, params.coderoot)

    def change(tx: Tx) -> Session:
        contexts.ensure(tx, session.core_user_id, context_name, services.settings.max_contexts_per_user)
        changed = sessions.update(tx, session, given, params.if_revision)
        services.events.append(tx, "session.changed", f"user:{session.core_user_id}", {"session_id": session.id})
        tx.after_commit(services.ends.wake.set)
        return services.sessions.changed(tx, changed)

    return views.session_record(await services.store.write(change))


def _check_span(start_at: int, end_at: int | None) -> None:
    if end_at is not None and end_at <= start_at:
        reason = "a session ends after its start"
        raise InvalidParams(f"end: {reason}", [{"param": "end", "reason": reason}])


async def _leave_store(call: Call, session: Session) -> None:
    """Remove the session's store where it is, which has to be empty."""
    place = (session.core_user_id, session.context_name, session_store(session.id))
    if await call.services.stores.use(*place, lambda store: next(store.keys(), None)) is not None:
        raise StoreError("The session has values in its store and stays in its context: remove them first.")
    await call.services.stores.destroy(*place)


def _shown(session: Session, limit: int) -> dict[str, Any]:
    """Return how the place is looked at to which a session comes."""
    options = orjson.loads(session.options)
    return {"limit": limit, "filter": options.get("filter"), "is_human": bool(options.get("human"))}


async def _arrival(call: Call, session: Session, listing: Listing, shown: dict[str, Any]) -> dict[str, Any]:
    scope = (session.id, session.place, None, None, "name", shown["is_human"])
    cursor = call.services.cursors.encode(listing.next, *scope)
    onward = None
    if cursor is not None:
        params = {"session_id": session.id, "limit": shown["limit"], "cursor": cursor}
        onward = {"method": "session.ls", "params": params}
    return await _listing(call, session, listing, onward, has_commands=True)


async def _listing(
    call: Call, session: Session, listing: Listing, onward: dict[str, Any] | None, has_commands: bool
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "session_id": session.id,
        "revision": session.revision,
        "current_set": views.current_set(listing),
        "contents": views.contents(listing, session.id, onward),
    }
    if has_commands:
        answer["pallet_version"], commands = await call.services.navigation.pallet(call, session, listing)
        answer["commands"] = views.commands(session.id, commands)
    if session.relocated_from is not None:
        answer["relocated_from"] = {
            "set_id": session.relocated_from,
            "reason": "that set is gone, or no longer open to you",
        }
    return answer


def _next_params(params: LsParams, session_id: str, cursor: str) -> dict[str, Any]:
    again = params.model_dump(exclude_none=True, exclude_defaults=True)
    return {**again, "session_id": session_id, "cursor": cursor}


def _pick(session: Session, token_id: str, version: int, commands: list[Command]) -> Command:
    for command in commands:
        if command.id == token_id:
            return command
    raise NotInPallet(token_id, version, views.commands(session.id, commands))


@method(
    "session.presence",
    SessionParams,
    is_change=False,
    result=Presence,
    errors=errors.SESSION,
    examples=examples.PRESENCE,
)
async def presence(call: Call, params: SessionParams) -> dict[str, Any]:
    """Return who is attached to a session: the connections that have used it, with what each says it is."""
    session = await call.session(params.session_id)
    attached = call.services.connections.attached(session.core_user_id, session.id)
    return {
        "session_id": session.id,
        "items": [views.attached(one, one is call.connection) for one in sorted(attached, key=lambda one: one.label)],
    }


@method(
    "sessions.list",
    ListSessionsParams,
    is_change=False,
    result=SessionPage,
    errors=(*errors.STORAGE, "INVALID_CURSOR"),
    examples=examples.SESSIONS,
)
async def list_(call: Call, params: ListSessionsParams) -> dict[str, Any]:
    """Return the caller's sessions, the oldest first, whatever their state."""
    scope = ("sessions", call.user_id, params.context_name, params.state)
    position = call.services.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    found = await call.services.store.read(
        lambda tx: sessions.page(tx, call.user_id, params.limit + 1, after, params.context_name, params.state)
    )
    return call.services.cursors.page(found, params.limit, views.session_record, *scope)


METHODS = (create, destroy, get, ls, cd, action, update, presence, list_)
