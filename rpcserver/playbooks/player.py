"""Playing: a job of the long lane that brings a session's playbook to its end, action after action.

The end of each action is a row and a notice in one transaction. A play whose server was killed is run again and goes
on with the first action not done: an action that was under way then is played a second time.
Source: seeds.md P10, P11; heroscript.md 5.
"""

import asyncio
import json
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from core import users
from core.errors import UserNotFound
from heroscript import Action, PlayError
from heroscript.action import DEFAULT_PRIORITY
from heroscript.errors import TooLarge
from heroscript.filters import ActionFilter, Order
from heroscript.grammar import name_fix
from jobs import JobContext, JobError
from jobs.authority import Authority
from jobs.errors import CredentialExpired, CredentialRevoked, JobsError
from jobs.model import Ending, JobSpec, job
from jobs.nearest import nearest
from jobs.secrets import HIDDEN, hidden, holds, spellings
from plugins.errors import PluginError, printable
from plugins.hooks import Play, SessionView
from plugins.manager import Bus
from rpcserver.auth.authenticator import Principal, Secret
from rpcserver.auth.credentials import Credentials
from rpcserver.errors import RpcError, UnknownAction
from rpcserver.events.log import Events
from rpcserver.playbooks import rows as playbooks
from rpcserver.playbooks import sources
from rpcserver.playbooks.keyvalue import Stores
from rpcserver.playbooks.rows import SHOWN, Outcome, Scanner, Step
from rpcserver.playbooks.sources import Actions, Written
from rpcserver.rpc.dispatcher import Dispatcher
from rpcserver.rpc.errors import describe_for_job
from rpcserver.sessions import contexts
from rpcserver.sessions.contexts import Context
from rpcserver.sessions.rows import Session, Sessions
from rpcserver.settings import Settings
from store import PoolError, Store, Tx

PLAY = "session.play"
_SECRET = re.compile(r"\{secret:([^{}]+)\}")


class PlayData(BaseModel):
    """Input of session.play."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)
    session_id: str
    filter: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a play happens: read again for each action, which may have changed it."""

    session: Session
    context: Context
    principal: Principal
    env: dict[str, str]
    words: dict[str, str]  # those of the session before its params before the context's
    words_by: dict[str, str]  # who set each of them, as rows have it


@dataclass(frozen=True, slots=True)
class End:
    """How an action ended: the function of the transaction that stores it and tells of it.

    `env`: the session's words as they are then, None when they stay; `authority`: by whose credentials.
    """

    events: Events
    job_id: str
    step: Step
    outcome: Outcome
    env: dict[str, str] | None = None
    authority: str = ""

    def __call__(self, tx: Tx) -> None:
        """Store it."""
        step = self.step
        playbooks.end(tx, step.session_id, step.number, self.outcome)
        if self.env is not None and self.env != playbooks.env(tx, step.session_id):
            playbooks.set_env(tx, step.session_id, self.env, self.authority)
        owner = tx.one("SELECT core_user_id FROM sessions WHERE id = ?", step.session_id)
        if owner is not None:
            _tell(self.events, tx, step, owner[0], self.job_id)

    def again(self, tx: Tx) -> None:
        """Store it unless that was done: the disk may not have taken it, nor that the action began."""
        row = playbooks.read(tx, self.step.session_id, self.step.number)
        if row is None or (row.job_id == self.job_id and row.finished_at is not None):
            return
        if row.job_id != self.job_id:
            playbooks.begin(tx, row.session_id, row.number, self.job_id, self.outcome.handled_by)
        self(tx)


def _tell(events: Events, tx: Tx, step: Step, user_id: str, job_id: str) -> None:
    now = playbooks.read(tx, step.session_id, step.number)
    if now is not None:
        data = {"session_id": step.session_id, "job_id": job_id, **playbooks.told(now)}
        events.append(tx, "playbook.action", f"user:{user_id}", data)


class Left:
    """What is left of a playbook: the numbers of its actions, in the order in which they are to be played.

    Args:
        order: that of the priorities in force.
        filter: which actions count.
        most: how many are kept of each priority; None: all.
    """

    def __init__(self, order: Order, filter: str, most: int | None = None) -> None:
        self._wanted = ActionFilter(filter)
        self._most = most
        self.begin_anew(order)

    def begin_anew(self, order: Order) -> None:
        """Forget everything: the priorities are others."""
        self._order = order
        self._by_order: dict[int, deque[int]] = {}
        self.seen = 0

    def take_in(self, actions: Iterable[tuple[int, str, str]]) -> list[int]:
        """Add number, actor and name of actions behind those seen; return the numbers that are kept."""
        kept = []
        for number, actor, name in actions:
            self.seen = number
            if not self._wanted.matches(actor, name):
                continue
            order = self._order.of(actor, name)
            numbers = self._by_order.setdefault(DEFAULT_PRIORITY if order is None else order, deque())
            if self._most is None or len(numbers) < self._most:
                numbers.append(number)
                kept.append(number)
        return kept

    def __len__(self) -> int:
        return sum(len(numbers) for numbers in self._by_order.values())

    def __iter__(self) -> Iterator[int]:
        """Take the numbers, one after another; what is added meanwhile comes in its order."""
        while orders := [order for order, numbers in self._by_order.items() if numbers]:
            yield self._by_order[min(orders)].popleft()


class Player:
    """Plays playbooks, one play a session at a time.

    Args:
        dispatcher: makes the calls of those who play actions.
        stores: where secrets are.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        bus: Bus,
        events: Events,
        sessions: Sessions,
        credentials: Credentials,
        dispatcher: Dispatcher,
        scanner: Scanner,
        stores: Stores,
    ) -> None:
        self._settings = settings
        self._store = store
        self._bus = bus
        self._events = events
        self._sessions = sessions
        self._credentials = credentials
        self._dispatcher = dispatcher
        self.scanner = scanner
        self.stores = stores
        self.playing: dict[str, str] = {}
        # The sessions whose playbook changed while they were played: True when its priorities did.
        self.changed: dict[str, bool] = {}

    def spec(self) -> JobSpec:
        """Return the job function."""
        declare = job(
            PLAY,
            PlayData,
            lane="long",
            timeout_s=self._settings.play_timeout_s,
            on_crash="retry",
            is_internal=True,
        )
        return declare(self.play)

    async def play(self, job: JobContext, data: PlayData) -> Ending[dict[str, Any]]:
        """Play what is left of a session's playbook, in the order of its priorities, until an action fails."""
        other = self.playing.setdefault(data.session_id, job.id)
        if other != job.id:
            raise JobError(f"The playbook is being played already, by the job {other}.")
        try:
            return await self._play(job, data)
        except RpcError as error:
            raise JobError(error.message) from error
        finally:
            del self.playing[data.session_id]
            self.changed.pop(data.session_id, None)

    def note_change(self, session_id: str, *, is_order: bool = False) -> None:
        """Have a play of the session look again at what is left; with `is_order` also in which order."""
        if session_id in self.playing:
            self.changed[session_id] = is_order or self.changed.get(session_id, False)

    async def handlers(self, session_id: str, filter: str, actions: Actions) -> tuple[int, list[dict[str, Any]]]:
        """Return how many actions are left, and who would play the first of them, in order.

        `handled_by` is None for what nobody said he plays.

        Args:
            actions: what is not added yet, and would be.
        """
        store, bus = self._store, self._bus
        left = Left(Order(await store.read(lambda tx: playbooks.priorities(tx, session_id))), filter, most=SHOWN)
        total, new = 0, dict[int, Written]()
        async with aclosing(self.scanner.actions(session_id)) as pages:
            async for page in pages:
                total += len(page)
                left.take_in(page)
        number = (await store.read(lambda tx: playbooks.size(tx, session_id)))[0]
        for piece in actions.pieces():
            numbered = dict(enumerate(piece, number + 1))
            number += len(piece)
            waiting = [(nr, one.actor, one.name) for nr, one in numbered.items() if not one.is_done]
            total += len(waiting)
            new |= {nr: numbered[nr] for nr in left.take_in(waiting)}
            await asyncio.sleep(0)
        first = list(islice(left, SHOWN))

        def read(tx: Tx) -> list[Step]:
            steps = (
                playbooks.planned(nr, session_id, new[nr]) if nr in new else playbooks.read(tx, session_id, nr)
                for nr in first
            )
            return [step for step in steps if step is not None]

        return total, [
            {**playbooks.told(step), "state": "planned", "handled_by": bus.player_of(step.actor, step.name)}
            for step in await store.read(read)
        ]

    async def check(self, session_id: str, filter: str, actions: Actions) -> None:
        """Require that somebody plays every action that is left, and those about to be added.

        Raises UnknownAction naming each one, with near names.
        """
        if self._bus.can_play_unsaid():
            return  # a guest that did not say what it plays decides when it sees the action
        store, wanted = self._store, ActionFilter(filter)
        known: dict[tuple[str, str], bool] = {}
        unknown: list[Step] = []
        async with aclosing(self.scanner.actions(session_id)) as pages:
            async for page in pages:
                for nr, actor, name in page:
                    if wanted.matches(actor, name) and not await self._is_played(actor, name, known):
                        step = await store.read(partial(playbooks.read, session_id=session_id, number=nr))
                        unknown += [step] if step is not None and len(unknown) < SHOWN else []
        number = (await store.read(lambda tx: playbooks.size(tx, session_id)))[0]
        for piece in actions.pieces():
            await asyncio.sleep(0)
            first, number = number + 1, number + len(piece)
            for nr, one in enumerate(piece, first):
                if one.is_done or len(unknown) >= SHOWN or not wanted.matches(one.actor, one.name):
                    continue
                if not await self._is_played(one.actor, one.name, known):
                    unknown.append(playbooks.planned(nr, session_id, one))
        if unknown:
            mistakes = [self._unknown(step) for step in unknown]
            lines = "\n".join(f"{item['file'] or '<text>'}:{item['line']}: {item['message']}" for item in mistakes)
            message = f"No plugin plays an action of the playbook:\n{lines}"
            raise UnknownAction(message, mistakes=mistakes)

    async def _is_played(self, actor: str, name: str, known: dict[tuple[str, str], bool]) -> bool:
        is_played = known.get((actor, name))
        if is_played is None:
            is_played = known[actor, name] = self._bus.player_of(actor, name) is not None
            if len(known) % 50 == 0:
                await asyncio.sleep(0)
        return is_played

    def _unknown(self, step: Step) -> dict[str, Any]:
        near = nearest(step.title, self._bus.playable())
        message = f"nobody plays {step.title!r}" + (f"; near it: {', '.join(near)}" if near else "")
        return {
            "number": step.number,
            "file": step.file,
            "line": step.line,
            "action": step.title,
            "message": message,
            "near": near,
        }

    async def _play(self, job: JobContext, data: PlayData) -> Ending[dict[str, Any]]:
        store, session_id = self._store, data.session_id
        left = await self._left(session_id, data.filter)
        counts, _ = await store.read(lambda tx: playbooks.played(tx, session_id, job.id, 0))
        done = counts.get("done", 0)  # by this play, before the server was killed
        job.skip_asks(await store.read(lambda tx: playbooks.asked_by(tx, session_id, job.id)))
        order: dict[int, int] = {}  # several actions begin in one millisecond
        last: End | None = None
        brought: dict[str, Authority] = {}
        for number in left:
            if job.is_cancelling:
                raise asyncio.CancelledError  # somebody asked gently: between two actions is where a play can end
            step = await store.read(partial(playbooks.read, session_id=session_id, number=number))
            if step is None:
                continue
            order[step.number] = len(order)
            job.progress(done, done + 1 + len(left), step.title)
            job.authority.require()
            end = await self._step(job, data, step, brought)
            stored = store.write(end)
            if end.outcome.state != "failed":
                done += 1
                is_order = self.changed.pop(session_id, None)
                if not left and is_order is None:
                    # The last: its end is stored with that of the play, and is not waited for alone.
                    stored.add_done_callback(_seen)
                    last = end
                    break
            await stored
            if end.outcome.state == "failed":
                break
            if is_order is not None:
                await self._look_again(left, session_id, is_order)
        remaining = 0 if last is not None else len(await self._left(session_id, data.filter))
        job.progress(done, done + remaining, "")

        def summary(tx: Tx) -> dict[str, Any]:
            if last is not None:
                last.again(tx)
            counts, steps = playbooks.played(tx, session_id, job.id, SHOWN)
            failed = counts.get("failed", 0)
            steps.sort(key=lambda step: (step.started_at or 0, order.get(step.number, 0)))
            left = remaining - failed
            return {"done": counts.get("done", 0), "failed": failed, "left": left, "results": self._told(steps)}

        return Ending(summary)

    async def _left(self, session_id: str, filter: str) -> Left:
        left = Left(Order(await self._store.read(lambda tx: playbooks.priorities(tx, session_id))), filter)
        async with aclosing(self.scanner.actions(session_id)) as pages:
            async for page in pages:
                left.take_in(page)
        return left

    async def _look_again(self, left: Left, session_id: str, is_order: bool) -> None:
        if is_order:
            left.begin_anew(Order(await self._store.read(lambda tx: playbooks.priorities(tx, session_id))))
        async with aclosing(self.scanner.actions(session_id, after=left.seen)) as pages:
            async for page in pages:
                left.take_in(page)

    def _told(self, steps: list[Step]) -> list[dict[str, Any]]:
        """Return what is told of actions, as many of them as the record of a job has room for."""
        found, room = [], self._settings.max_job_result_bytes // 2
        for step in steps:
            told = playbooks.told(step)
            room -= len(orjson.dumps(told))
            if room < 0:
                break
            found.append(told)
        return found

    async def _step(self, job: JobContext, data: PlayData, step: Step, brought: dict[str, Authority]) -> End:
        """Play one action, if both who plays and who brought it may, and return how it ended, to be stored.

        Args:
            brought: those who brought actions, as this play has looked them up already.
        """
        who = self._bus.player_of(step.actor, step.name)
        # Not waited for: the writer keeps the order, and the end is stored behind it.
        begun = self._store.write(lambda tx: self._begin(tx, step, job, who))
        begun.add_done_callback(_seen)
        known: tuple[str, ...] = ()
        env: dict[str, str] | None = None
        entries: Collection[str] = ()
        by = both = job.authority
        try:
            by = await self._brought(step.authority, job.authority, brought)
            both &= by
            both.require(*self._bus.scopes_of(step.actor, step.name))
            scene = await self._scene(data, job.user_id, both)
            action = step.action
            for word in _words_in(action, scene.words):
                both &= await self._brought(scene.words_by[word], job.authority, brought)
            both.require(*self._bus.scopes_of(step.actor, step.name))
            scene = replace(scene, principal=replace(scene.principal, authority=both))
            if both.is_metered:
                entries = await self._credentials.admit(both, step.title)
            secrets = await self._prepare(action, scene)
            known = spellings(secrets)
            play = self._offer(job, scene, action, secrets, known)
            with job.under(both):
                handled_by, answer = await self._bus.play(play)
            if handled_by is None:
                raise JobError(self._unknown(step)["message"])
            if holds(play.env, known):
                raise JobError("A word of the session holds no secret: write {secret:NAME} where it is used.")
            result = hidden(self._plain(answer if answer is not None else _given_result(action)), known)
            env = self._checked_words(_remembered(scene.env, play.env, action, result))
            outcome = Outcome(handled_by, result, asked=job.asked)
        except asyncio.CancelledError:
            if job.is_cancelling or job.is_withdrawn:
                described = {"kind": "CANCELLED", "message": "The play was cancelled while it ran."}
                outcome = Outcome(who, error=described, asked=job.asked)
                await asyncio.shield(self._store.write(End(self._events, job.id, step, outcome)))
            raise
        except (PluginError, PlayError, PoolError, RpcError, JobsError) as error:
            described = hidden(describe_for_job(error), known)
            if isinstance(error, TooLarge):
                described["message"] = f"{step.place}: {step.title}: {described['message']}"
            job.log(f"{step.title} ({step.place}): {described['message']}")
            is_over = isinstance(error, CredentialRevoked | CredentialExpired) and job.authority.over is None
            is_over = is_over and by.over is not None  # else it is a word in it that is over
            outcome = Outcome(who, error=described, asked=job.asked, is_withdrawn=is_over)
        self._credentials.note(entries, "ok" if outcome.error is None else outcome.error["kind"])
        return End(self._events, job.id, step, outcome, env, both.stored)

    async def _brought(self, stored: str, own: Authority, brought: dict[str, Authority]) -> Authority:
        """Return who brought an action, or set a word in it."""
        if stored == own.stored:
            return own
        if stored not in brought:
            # In a transaction of the writer's: from then on what ends a credential is seen.
            brought[stored] = await self._store.write(lambda tx: self._credentials.load(tx, stored))
        return brought[stored]

    def _plain(self, value: Any) -> Any:
        """Return what a guest answered as JSON can hold it. Raises TooLarge, or JobError."""
        most = self._settings
        try:
            text = orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as error:
            raise JobError(f"What plays it answered what is no JSON ({printable(error)}): tell its author.") from error
        if len(text) > most.max_job_result_bytes:
            raise TooLarge(f"its result has more than {most.max_job_result_bytes} bytes, the most allowed")
        return orjson.loads(text)

    def _checked_words(self, env: dict[str, str]) -> dict[str, str]:
        """Return the words of a session, which have to be few enough to be kept. Raises TooLarge, or JobError."""
        try:
            orjson.dumps(env)
            are_texts = isinstance(env, dict) and all(isinstance(text, str) for text in env.values())
        except TypeError:
            are_texts = False
        if not are_texts:
            raise JobError("What plays it left words of the session that are no texts: tell its author.")
        most = self._settings.max_words_bytes
        if sum(len(name) + len(text.encode("utf-8", "replace")) for name, text in env.items()) > most:
            raise TooLarge(f"with it the session's words would have more than {most} bytes, the most allowed")
        return env

    async def _scene(self, data: PlayData, user_id: str, authority: Authority) -> Scene:
        session = await self._sessions.get(data.session_id, user_id)

        def read(tx: Tx) -> tuple[Any, Context | None, dict[str, str], dict[str, str]]:
            return (
                users.find(tx, user_id),
                contexts.find(tx, user_id, session.context_name),
                playbooks.env(tx, session.id),
                playbooks.words_by(tx, session.id),
            )

        user, context, env, words_by = await self._store.read(read)
        if user is None:
            raise JobError(str(UserNotFound(user_id)))
        context = context or Context(user_id, session.context_name, 0, None, "{}", "[]", 1, 0)
        words: dict[str, str] = {}
        by: dict[str, str] = {}
        for owner in (context, session):
            given = orjson.loads(owner.params)
            words |= {name: value for name, value in given.items() if isinstance(value, str)}
            by |= dict.fromkeys(given, owner.params_by)
        return Scene(session, context, Principal(user, authority), env, {**words, **env}, {**by, **words_by})

    async def _prepare(self, action: Action, scene: Scene) -> tuple[Secret, ...]:
        """Put words and secrets into their places in an action, and return the secrets."""
        most = self._settings.max_action_growth
        action.params.replace(scene.words, most)
        names = {name for _, value, _ in action.params.items() for name in _SECRET.findall(value)}
        user_id, context_name = scene.session.core_user_id, scene.session.context_name
        found = {name: await self.stores.secret(user_id, context_name, name) for name in sorted(names)}
        grown = sum(len(found[name]) for _, value, _ in action.params.items() for name in _SECRET.findall(value))
        if grown > most:
            raise TooLarge(f"its secrets would make it longer than {most} characters, the most allowed")
        action.params.change_values(lambda value: _SECRET.sub(lambda place: found[place[1]], value))
        return tuple(found.values())

    def _offer(
        self, job: JobContext, scene: Scene, action: Action, secrets: tuple[Secret, ...], known: tuple[str, ...]
    ) -> Play:
        session = scene.session
        view = SessionView(
            session.id,
            session.core_user_id,
            session.name,
            session.place,
            scene.principal.user.home_set_id,
            bool(session.is_interactive),
            session.context_name,
        )
        coderoot = session.coderoot or scene.context.coderoot
        return Play(
            view,
            action,
            lambda function, data: job.run(function, data, secrets=secrets, named_by="plugin"),
            partial(self._call, scene.principal, known),
            partial(_ask, job, known),
            dict(scene.env),
            sources.code_folder(self._settings, session.core_user_id, session.context_name, coderoot),
            lambda text: job.log(hidden(text, known)),
            scene.principal.may,
            scene.principal.authority.require,
            partial(_run_named, job, secrets),
            job.sleep,
            holds_secret=lambda value: holds(value, known),
        )

    async def _call(self, principal: Principal, known: tuple[str, ...], method: str, /, **params: Any) -> Any:
        # Into the context's secrets a secret may go: that is where nobody reads it.
        is_put_away = method == "context.db.set" and params.get("secret") is True
        if not is_put_away and holds(params, known):
            raise JobError(f"{method} is not handed a secret, which would stand where it can be read.")
        return await self._dispatcher.call(principal, method, params)

    def _begin(self, tx: Tx, step: Step, job: JobContext, who: str | None) -> None:
        playbooks.begin(tx, step.session_id, step.number, job.id, who)
        _tell(self._events, tx, step, job.user_id, job.id)


def _words_in(action: Action, words: dict[str, str]) -> list[str]:
    """Return which of these words stand in an action."""
    places = action.params.places()
    return [name for name in words if name_fix(name) in places] if places else []


async def _run_named(job: JobContext, secrets: tuple[Secret, ...], function: str, data: dict[str, Any]) -> Any:
    job.authority.require("job.run")
    return await job.run(function, data, secrets=secrets, named_by="caller")


async def _ask(job: JobContext, known: tuple[str, ...], text: str, **form: Any) -> Any:
    if holds([text, form], known):
        raise JobError("A question cannot hold a secret: those who are asked would read it.")
    return await job.ask(text, **form)


def _remembered(before: dict[str, str], env: dict[str, str], action: Action, result: Any) -> dict[str, str]:
    """Return the words with the result under the name that the action gives with `as`, unless its guest did so."""
    name = action.params.get_default("as", "")
    if not name or env.get(name) != before.get(name) or result in (None, HIDDEN):
        return env
    return {**env, name: result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)}


def _given_result(action: Action) -> Any:
    return None if action.result is None else action.result.get_map()


def _seen(stored: asyncio.Future[None]) -> None:
    # A start that could not be stored shows when the end cannot be, either.
    if not stored.cancelled():
        stored.exception()
