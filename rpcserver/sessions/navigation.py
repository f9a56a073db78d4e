"""Looking around and walking: what session.ls, session.cd and session.action share.

Source: sessions.md 2.5 to 2.7.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import orjson
import structlog

from core import users
from core.calls import Scene
from core.errors import EnterRefused, LeaveRefused, NotFound, PassageChanged, SetNotFound
from core.rules import Answers
from jobs import asks
from jobs.engine import JobRunner
from jobs.errors import ResultTooLarge
from jobs.functions.attributes import AskPassage
from jobs.functions.session import CreateSession, Listing, Move, Moved, SessionSets, listed
from jobs.functions.session import List as ListSet
from jobs.model import Request
from plugins.hooks import Command, Pallet, Passage, SessionView
from plugins.manager import Bus, Notices
from rpcserver.errors import ResponseTooLarge
from rpcserver.events.log import Events
from rpcserver.events.publish import Publisher
from rpcserver.rpc.calls import Call, Client
from rpcserver.sessions import rows as sessions
from rpcserver.sessions import views
from rpcserver.sessions.pallet import Pallets, offered
from rpcserver.sessions.questions import Asking
from rpcserver.sessions.rows import NewSession, Session, Sessions
from rpcserver.settings import Settings
from store import Store, Tx

T = TypeVar("T")

log = structlog.get_logger("session")

MAX_REPEATS = 2  # of a move whose rules were changed while they were asked
ENTRY_BYTES = 1024  # of one, besides its attributes, and rather more
BESIDE_BYTES = 64 * 1024  # of an answer, besides the contents
MAX_ASKED = 20  # open questions put to a connection that attaches

Way = str  # cd, back, forward, up, home, path


class Navigation:
    """Where sessions stand, what is there, and how they come to stand elsewhere.

    Args:
        asking: puts open questions to who begins to use a session.
        publisher: knows whether rules have to be asked before a move.
        spawn: starts a task that ends with the server.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        runner: JobRunner,
        bus: Bus,
        notices: Notices,
        events: Events,
        publisher: Publisher,
        sessions: Sessions,
        asking: Asking,
        pallets: Pallets,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._settings = settings
        self._store = store
        self._runner = runner
        self._bus = bus
        self._notices = notices
        self._events = events
        self._publisher = publisher
        self._sessions = sessions
        self._asking = asking
        self._spawn = spawn
        self._making_default = asyncio.Lock()
        self.pallets = pallets

    def find_session(self, call: Call, session_id: str | None) -> Session | Awaitable[Session]:
        """Return the caller's session, at once when it is in memory; None means his default session, made on demand."""
        store = self._sessions
        session_id = session_id or store.default_of(call.user_id)
        if session_id is None:
            return self._make_default(call)
        session = store.cached(session_id)
        if session is not None and session.core_user_id == call.user_id:
            self._attach(call, session_id)
            return session
        return self._looked_up(call, session_id)

    async def the_session(self, call: Call, session_id: str | None) -> Session:
        """Return the caller's session. Raises SessionNotFound."""
        found = self.find_session(call, session_id)
        return found if isinstance(found, Session) else await found

    async def _looked_up(self, call: Call, session_id: str) -> Session:
        session = await self._sessions.get(session_id, call.user_id)
        self._attach(call, session_id)
        return session

    def _attach(self, call: Call, session_id: str) -> None:
        """Count the connection among those that use the session; the first time it is asked what is open there."""
        client = call.connection.client
        if client is not None and session_id not in client.sessions:
            client.sessions.add(session_id)
            self._spawn(self._ask_what_is_open(client, call.user_id, session_id))

    async def _ask_what_is_open(self, client: Client, user_id: str, session_id: str) -> None:
        found = await self._store.read(lambda tx: asks.page(tx, user_id, MAX_ASKED, None, session_id))
        if found:
            self._asking.attach(client, user_id, found)

    async def _make_default(self, call: Call) -> Session:
        # One at a time: two calls that find no default session must not make two.
        async with self._making_default:
            made = self._sessions.default_of(call.user_id)
            if made is not None:
                return await self._sessions.get(made, call.user_id)
            return await self.create(call, NewSession(call.user_id, ""), None)

    async def create(
        self, call: Call, new: NewSession, set_id: str | None, also: Callable[[Tx, Session], None] | None = None
    ) -> Session:
        """Make a session: the row, the job, the row filled in with what the job made, and whatever `also` stores."""
        # What is taken away again, should it come to nothing, is no effect.
        inserting = self._store.write(
            lambda tx: sessions.insert(tx, new, self._settings.max_sessions_per_user), is_record=True
        )

        def fill(tx: Tx, made: SessionSets) -> Session:
            session = sessions.fill(tx, session_id, made.working_set_id, made.pallet_set_id, made.data_set_id)
            self._events.append(tx, "session.created", f"user:{new.user_id}", {"session_id": session_id})
            if made.is_first_there:
                self._tell_contents(call, tx, made.working_set_id, "entered")
            if also is not None:
                also(tx, session)
            self.tell_guests(call, tx, "session_created", session)
            self.tell_guests(call, tx, "session_entered", session, set_id=made.working_set_id)
            return self._sessions.changed(tx, session)

        try:
            session_id = await asyncio.shield(inserting)
            request = call.job_request(session_id)
            if set_id is not None and self._bus.has("set_entering"):
                await self._ask_entering(call, new, session_id, set_id)

            async def begin() -> Session:
                answers = {} if set_id is None else await self._ask_rules(call, request, None, set_id)
                data = CreateSession(session_id=session_id, name=new.name, set_id=set_id, answers=answers)
                made: Session = await self._runner.run("session.create_session", data, request, then=fill)
                return made

            return await self._passing(call, begin)
        except BaseException:
            # The row must not survive as a session that can be used, nor one whose insertion nobody waited for;
            # a kill here is mended at the next start.
            session_id = await inserting
            await self._store.write(lambda tx: sessions.remove(tx, session_id), is_record=True)
            raise

    async def look(self, call: Call, session: Session, **options: Any) -> Listing:
        """Run `session.ls` for the session's working set, or for `set_id`, with the ways back and forward."""
        listing: Listing = await self._runner.run("session.ls", _query(session, **options), request_of(call, session))
        return listing

    async def look_here(self, call: Call, session: Session, **options: Any) -> tuple[Session, Listing]:
        """Look around where the session stands; when that place is gone or closed, go where it still can be."""
        try:
            return session, await self.look(call, session, **options)
        except SetNotFound:
            lost = session.place
        moved = await self._relocate(call, session, {**options, "after": None})
        log.info("session_relocated", session_id=session.id, lost=lost)
        return moved

    async def _relocate(self, call: Call, session: Session, options: dict[str, Any]) -> tuple[Session, Listing]:
        """Move a session whose working set is gone to the newest place of its history it can enter, else home."""
        home = call.principal.user.home_set_id
        data = Move(
            session_id=session.id,
            from_set_id=session.place,
            targets=(*session.back[::-1], home),
            direction="back",
            is_forced=True,
        )
        return await self._run_move(call, session, data, "cd", options, relocated_from=session.place)

    async def pallet(self, call: Call, session: Session, listing: Listing) -> tuple[int, list[Command]]:
        """Assemble the command pallet for where the session stands, and return it with its version."""
        run = partial(run_unasked, call, session)
        own = Pallet(view(call, session), views.place(listing), run, offered(listing))
        self.pallets.find_order(call, session, listing)
        collected = await self._bus.pallet(own)
        return self.pallets.version(session, collected), collected

    async def go(
        self,
        call: Call,
        session: Session,
        way: Way,
        set_id: str | None = None,
        path: str | None = None,
        **options: Any,
    ) -> tuple[Session, Listing]:
        """Move the session and look around there as `options` say, or refuse and leave everything as it was.

        First the guards of the place left and of the place entered are asked, outside any transaction; then one
        transaction holds membership, history and working set, checks again what can be checked there, and makes the
        listing: a place that cannot be listed is not entered.
        """
        here = session.place
        targets: tuple[str, ...] = (set_id,) if set_id else ()
        if way in ("back", "forward"):
            targets = (session.back if way == "back" else session.forward)[::-1]
        data = Move(
            session_id=session.id,
            from_set_id=here,
            targets=targets,
            direction=way if way in ("back", "forward") else "there",
            path=path,
            is_up=way == "up",
            is_home=way == "home",
        )
        return await self._passing(call, partial(self._ask_and_move, call, session, data, way, options))

    async def _ask_and_move(
        self, call: Call, session: Session, data: Move, way: Way, options: dict[str, Any]
    ) -> tuple[Session, Listing]:
        here = session.place
        if self._publisher.has_asking_rules or self._bus.has("set_leaving") or self._bus.has("set_entering"):
            target = await self._runner.run("session.find", data, request_of(call, session))
            answers = {}
            if target != here and not await self._is_sent_home(call, target):
                await self._ask_guards(call, session, here, target)
                answers = await self._ask_rules(call, request_of(call, session), here, target)
            data = data.model_copy(update={"expected_set_id": target, "answers": answers})
        return await self._run_move(call, session, data, way, options)

    async def _passing(self, call: Call, move: Callable[[], Awaitable[T]]) -> T:
        """Make a move; one that was stopped by a rule nobody had asked is made again, and asks it first."""
        for _ in range(MAX_REPEATS):
            try:
                return await move()
            except PassageChanged:
                self._publisher.ask_rules()
        return await move()

    async def _run_move(
        self,
        call: Call,
        session: Session,
        data: Move,
        way: Way,
        options: dict[str, Any],
        relocated_from: str | None = None,
    ) -> tuple[Session, Listing]:
        def listed_here(tx: Tx, after: Session) -> tuple[Session, Listing]:
            listing = listed(Scene(tx.looking(), after.core_user_id), after.id, _query(after, **options))
            self._check_size(after, listing)
            return after, listing

        def record(tx: Tx, moved: Moved) -> tuple[Session, Listing]:
            if moved.set_id == session.working_set_id and relocated_from is None:
                return listed_here(tx, session)
            after = sessions.move(tx, session, moved.set_id, way, self._settings.max_history, relocated_from)
            self._tell_move(call, tx, session, moved, relocated_from)
            if moved.left_set_id is not None:
                self.tell_guests(call, tx, "session_left", after, set_id=moved.left_set_id)
            self.tell_guests(call, tx, "session_entered", after, set_id=moved.set_id)
            return listed_here(tx, self._sessions.changed(tx, after))

        try:
            arrived: tuple[Session, Listing] = await self._runner.run(
                "session.cd", data, request_of(call, session), then=record
            )
        except ResultTooLarge as error:
            message = f"The answer would have {error.size} bytes, the limit is {error.limit}: ask for less at a time."
            raise ResponseTooLarge(message) from error
        return arrived

    def _check_size(self, session: Session, listing: Listing) -> None:
        """Raise ResultTooLarge when a listing cannot be answered."""
        limit = self._settings.max_response_bytes
        size = sum(len(orjson.dumps(entry.attributes)) + ENTRY_BYTES for entry in listing.entries)
        if size > limit // 2:  # so near to it that it has to be known
            size = len(orjson.dumps(views.contents(listing, session.id, None))) + BESIDE_BYTES
        if size > limit:
            raise ResultTooLarge("", "session.ls", size, limit)

    async def _ask_entering(self, call: Call, new: NewSession, session_id: str, set_id: str) -> None:
        home = call.principal.user.home_set_id
        newcomer = SessionView(session_id, new.user_id, new.name, home, home, new.is_interactive)
        request = call.job_request(session_id, is_interactive=new.is_interactive)

        def run(function: str, data: dict[str, Any]) -> Awaitable[Any]:
            return call.run(function, data, replace(request, named_by="plugin", admitted=function))

        passage = Passage(newcomer, None, set_id, run)
        refused = await self._bus.refusal("set_entering", passage)
        if refused is not None:
            listing = await self._runner.run("session.ls", ListSet(set_id=set_id, has_contents=False), request)
            raise EnterRefused(set_id, listing.place.name, *refused)

    async def _ask_rules(self, call: Call, request: Request, here: str | None, target: str) -> Answers:
        if not self._publisher.has_asking_rules:
            return {}
        data = AskPassage(session_id=request.session_id or "", from_set_id=here, to_set_id=target)
        answers: Answers = await self._runner.run("session.ask", data, request)
        return answers

    async def _is_sent_home(self, call: Call, target: str) -> bool:
        # A frozen user may go home and nowhere else, and no place can keep him from it.
        user = call.principal.user
        found = await self._store.read(lambda tx: users.find(tx, user.id)) if target == user.home_set_id else None
        return found is not None and bool(found.is_frozen)

    async def _ask_guards(self, call: Call, session: Session, here: str, target: str) -> None:
        passage = Passage(view(call, session), here, target, partial(run_unasked, call, session))
        for hook, set_id, refusal in (("set_leaving", here, LeaveRefused), ("set_entering", target, EnterRefused)):
            refused = await self._bus.refusal(hook, passage)
            if refused is not None:
                try:
                    name = (await self.look(call, session, set_id=set_id, has_contents=False)).place.name
                except NotFound:
                    name = "the set"
                raise refusal(set_id, name, *refused)

    def _tell_move(self, call: Call, tx: Tx, session: Session, moved: Moved, relocated_from: str | None) -> None:
        own = f"user:{session.core_user_id}"
        if relocated_from is not None:
            data = {"session_id": session.id, "set_id": moved.set_id, "relocated_from": relocated_from}
            self._events.append(tx, "session.relocated", own, data)
        if moved.left_set_id is not None:
            self._events.append(tx, "session.left", own, {"session_id": session.id, "set_id": moved.left_set_id})
            if moved.is_gone:
                self._tell_contents(call, tx, moved.left_set_id, "left")
        self._events.append(tx, "session.entered", own, {"session_id": session.id, "set_id": moved.set_id})
        if moved.is_new:
            self._tell_contents(call, tx, moved.set_id, "entered")

    def tell_guests(self, call: Call, tx: Tx, hook: str, session: Session, **arguments: Any) -> None:
        """Have guests told, once it is on disk, what has become of a session."""
        if self._notices.wants(hook):
            told = view(call, session)
            tx.after_commit(lambda: self._notices.put(hook, session=told, **arguments))

    def tell_left(self, call: Call, tx: Tx, set_id: str) -> None:
        """Tell those who stand in a set that the caller's token is gone from it."""
        self._tell_contents(call, tx, set_id, "left")

    def _tell_contents(self, call: Call, tx: Tx, set_id: str, change: str) -> None:
        user = call.principal.user
        token = {"id": user.token_id, "name": user.name, "type": "user"}
        data = {"set_id": set_id, "change": change, "token": token}
        self._events.append(tx, "session.contents_changed", f"set:{set_id}", data)


def request_of(call: Call, session: Session) -> Request:
    """Return a request for a job that is a part of a call on a session."""
    return call.job_request(session.id, is_interactive=bool(session.is_interactive))


def run_unasked(call: Call, session: Session, function: str, data: dict[str, Any]) -> Awaitable[Any]:
    """Run a job for a plugin's filter or guard: the server asks it, whoever calls, and no scope has to include it."""
    return call.run(function, data, replace(request_of(call, session), named_by="plugin", admitted=function))


class GuestJobs:
    """Runs the jobs that guests start for one action, and remembers the long ones by id.

    Args:
        is_detached: do not wait for the long ones; the guest gets `{"job_id": ...}` instead of the result.
    """

    def __init__(self, call: Call, session: Session, is_detached: bool) -> None:
        self._call = call
        self._session = session
        self._is_detached = is_detached
        self.last: str | None = None

    async def __call__(self, function: str, data: dict[str, Any]) -> Any:
        """Run a job. A long one goes on when the caller's time is over; one the caller cancels is cancelled."""
        request = replace(request_of(self._call, self._session), named_by="plugin", admitted="")
        if not self._call.is_long(function):
            return await self._call.runner.run(function, data, request)
        self.last = await self._call.submit(function, data, request)
        return {"job_id": self.last} if self._is_detached else await self._call.result(self.last)


def _query(session: Session, **options: Any) -> ListSet:
    """Return the input of `session.ls`: of the set the session stands in, unless another is given."""
    options.setdefault("set_id", session.place)
    if options["set_id"] == session.working_set_id:
        # As the session is set, whatever one call asks of its contents: else the pallet would change to and fro.
        is_human = bool(orjson.loads(session.options).get("human"))
        options.update(pallet_set_id=session.pallet_set_id, has_commands=True, has_human_commands=is_human)
    return ListSet(back=session.back[::-1], forward=session.forward[::-1], **options)


def view(call: Call, session: Session) -> SessionView:
    """Return the session as guests see it."""
    home = call.principal.user.home_set_id
    return SessionView(
        session.id,
        session.core_user_id,
        session.name,
        session.working_set_id or home,
        home,
        bool(session.is_interactive),
        session.context_name,
    )
