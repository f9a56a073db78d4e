"""The jobs of the seed: session.create_session, session.destroy_session, session.ls; and session.cd behind them.

Source: seeds.md S13 to S15; sessions.md 2.10 to 2.12, 3.3.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ConfigDict

from core import commands, listing, presence, sets, users
from core.access import Place
from core.calls import Core, Scene
from core.commands import TokenCommand
from core.errors import NotFound, NotWritable, NoWay, SetNotFound
from core.listing import Entry, Kind, Order, Position
from core.rules import Answers
from jobs.model import Commit, JobContext, job


class _Data(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class CreateSession(_Data):
    """Input of session.create_session; `set_id` None means the user's home."""

    session_id: str
    name: str
    set_id: str | None = None
    answers: Answers = {}


class DestroySession(_Data):
    """Input of session.destroy_session."""

    session_id: str
    data_set_id: str | None
    pallet_set_id: str | None


class List(_Data):
    """Input of session.ls. `back` and `forward` are the sets the session could return to, nearest first."""

    set_id: str
    limit: int = 50
    after: Position | None = None
    kind: Kind | None = None
    filter: str | None = None
    order: Order = "name"
    is_human: bool = False
    token_id: str | None = None
    has_contents: bool = True
    back: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()
    pallet_set_id: str | None = None
    has_commands: bool = False
    has_human_commands: bool = False


class Move(_Data):
    """Input of session.cd: the first of `targets` that can be entered; a single one is entered or refuses.

    `answers` is what the scripts and remotes of the rules said; `is_forced`: the place left is gone and cannot refuse.
    """

    session_id: str
    from_set_id: str
    targets: tuple[str, ...] = ()
    direction: str = "there"
    path: str | None = None
    is_up: bool = False
    is_home: bool = False
    expected_set_id: str | None = None
    answers: Answers = {}
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class SessionSets:
    """Output of session.create_session: what the session row is filled with."""

    session_id: str
    name: str
    working_set_id: str
    pallet_set_id: str
    data_set_id: str
    is_first_there: bool


@dataclass(frozen=True, slots=True)
class Exit:
    """A set one could go to."""

    set_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Output of session.ls: the place, a page of what stands there, and the ways out of it."""

    place: Place
    parent: Place | None
    entries: list[Entry]
    next: Position | None
    back: Exit | None
    forward: Exit | None
    up: Exit | None
    home: Exit | None
    has_children: bool
    has_links: bool
    commands: list[TokenCommand]


@dataclass(frozen=True, slots=True)
class Moved:
    """Output of session.cd. `is_gone` and `is_new` tell whether the user's token left the one and came to the other."""

    left_set_id: str | None
    is_gone: bool
    set_id: str
    is_new: bool


@job(
    "session.create_session",
    CreateSession,
    is_internal=True,
    calls=["core.user.read", "core.set.child", "core.set.create", "core.set.show", "core.set.enter"],
)
async def create_session(job: JobContext, data: CreateSession) -> Commit[SessionSets]:
    """Create what a user session needs to start: its data set, its pallet set, and its place in the start set."""
    return Commit(partial(_create, user_id=job.user_id, data=data))


@job(
    "session.destroy_session",
    DestroySession,
    is_internal=True,
    calls=["core.set.leave", "core.set.discard"],
)
async def destroy_session(job: JobContext, data: DestroySession) -> Commit[tuple[str | None, bool]]:
    """Destroy the resources of a session: no set can refuse it, and pieces already gone count as done."""
    while await job.write(partial(_destroy_some, data=data)):
        pass
    return Commit(partial(_destroy, data=data))


@job(
    "session.ls",
    List,
    is_internal=True,
    is_part=True,
    lane="memory",
    calls=[
        "core.user.read",
        "core.set.show",
        "core.set.read",
        "core.set.ways",
        "core.set.commands",
        "core.set.can_enter",
        "core.token.read",
    ],
)
async def ls(job: JobContext, data: List) -> Listing:
    """List the set a session stands in, or another it may read; changes nothing."""
    return await job.read(partial(_list, user_id=job.user_id, session_id=job.session_id, data=data))


@job(
    "session.cd",
    Move,
    is_internal=True,
    calls=[
        "core.user.read",
        "core.set.show",
        "core.set.can_enter",
        "core.set.may_pass",
        "core.set.resolve",
        "core.set.leave",
        "core.set.enter",
    ],
)
async def cd(job: JobContext, data: Move) -> Commit[Moved]:
    """Move a session to another set: out of the one, into the other, or nothing at all."""
    return Commit(partial(_move, user_id=job.user_id, data=data))


@job(
    "session.find",
    Move,
    is_internal=True,
    lane="memory",
    calls=["core.user.read", "core.set.show", "core.set.can_enter", "core.set.may_pass", "core.set.resolve"],
)
async def find(job: JobContext, data: Move) -> str:
    """Say to which set a move would go, without going. Raises SetNotFound for one that cannot be seen."""
    return await job.read(lambda core: core(sets.show, _target(core, job.user_id, data)).id)


def _create(core: Core, user_id: str, data: CreateSession) -> SessionSets:
    user = core(users.read, user_id)
    shelf = core(sets.child, user.home_set_id, "sessions")
    if shelf is None:
        shelf = core(sets.create, "sessions", user.home_set_id, is_human=False)
    name = f"{data.name} {data.session_id[-6:]}"
    data_set = core(sets.create, f"data of {name}", shelf, is_human=False)
    pallet = core(sets.create, f"command pallet of {name}", shelf, is_human=False)
    start = data.set_id or user.home_set_id
    is_first = core(presence.enter, data.session_id, start, data.answers)
    return SessionSets(data.session_id, data.name, start, pallet, data_set, is_first)


def _destroy(core: Core, data: DestroySession) -> tuple[str | None, bool]:
    left = core(presence.leave, data.session_id, is_last=True)
    for set_id in (data.data_set_id, data.pallet_set_id):
        if set_id is None:
            continue
        try:
            core(sets.discard, set_id)
        except (SetNotFound, NotWritable):
            continue  # gone, or given away: it is another's now
    return left or (None, False)


def _destroy_some(core: Core, data: DestroySession) -> bool:
    if core.piece(presence.leave, data.session_id, is_last=True):
        return True
    for set_id in (data.data_set_id, data.pallet_set_id):
        with suppress(SetNotFound, NotWritable):
            if set_id is not None and core.piece(sets.discard, set_id):
                return True
    return False


def _list(core: Core, user_id: str, session_id: str | None, data: List) -> Listing:
    place = core(sets.show, data.set_id)
    entries, after = _contents(core, session_id, data)
    home = core(users.read, user_id).home_set_id
    parent = _shown(core, place.parent_id)
    has_children, has_links = core(listing.ways, data.set_id)
    return Listing(
        place,
        parent,
        entries,
        after,
        back=_first_exit(core, data.back, data.set_id),
        forward=_first_exit(core, data.forward, data.set_id),
        up=_first_exit(core, (place.parent_id,) if place.parent_id else (), data.set_id),
        home=_first_exit(core, (home,), data.set_id),
        has_children=has_children,
        has_links=has_links,
        commands=_commands(core, session_id, data) if data.has_commands else [],
    )


def listed(scene: Scene, session_id: str, data: List) -> Listing:
    """Return what `session.ls` answers, in a transaction under way: a move is listed before it is stored."""
    return _list(Core(scene, ls.name, ls.calls), scene.user_id, session_id, data)


def _commands(core: Core, session_id: str | None, data: List) -> list[TokenCommand]:
    return core(
        commands.offered, data.set_id, data.pallet_set_id, is_human=data.has_human_commands, session_id=session_id
    )


def _contents(core: Core, session_id: str | None, data: List) -> tuple[list[Entry], Position | None]:
    if data.token_id is not None:
        entry = core(listing.read_one, data.token_id, data.set_id, is_human=data.is_human)
        return [entry], None
    if not data.has_contents:
        return [], None
    page = core(
        listing.read,
        data.set_id,
        limit=data.limit,
        after=data.after,
        kind=data.kind,
        filter=data.filter,
        order=data.order,
        is_human=data.is_human,
        given_to=session_id,
    )
    return page.entries, page.next


def _move(core: Core, user_id: str, data: Move) -> Moved:
    target = _target(core, user_id, data)
    if data.expected_set_id not in (None, target):
        # What guards were asked about is not where the move would go now: the world changed in between.
        raise SetNotFound(target)
    core(sets.show, target)
    if target == data.from_set_id and not data.is_forced:
        return Moved(None, False, target, False)  # no move: no door is passed
    left = core(presence.leave, data.session_id, answers=data.answers, is_asked=not data.is_forced)
    is_new = core(presence.enter, data.session_id, target, data.answers)
    return Moved(left[0] if left else None, bool(left and left[1]), target, is_new)


def _target(core: Core, user_id: str, data: Move) -> str:
    if data.is_home:
        return core(users.read, user_id).home_set_id
    if data.is_up:
        parent = core(sets.show, data.from_set_id).parent_id
        if parent is None:
            raise NoWay("up")
        return parent
    if data.path is not None:
        return core(sets.resolve, data.from_set_id, data.path, core(users.read, user_id).home_set_id)
    if data.direction == "there" and len(data.targets) == 1:
        return data.targets[0]
    if data.is_forced:
        for set_id in data.targets:
            if core(presence.may_pass, data.session_id, set_id):
                return set_id
    exit = _first_exit(core, data.targets, data.from_set_id)
    if exit is None:
        raise NoWay(data.direction)
    return exit.set_id


def _first_exit(core: Core, candidates: tuple[str, ...], here: str) -> Exit | None:
    for set_id in dict.fromkeys(candidates):
        if set_id != here and core(sets.can_enter, set_id):
            return Exit(set_id, core(sets.show, set_id).name)
    return None


def _shown(core: Core, set_id: str | None) -> Place | None:
    if set_id is None:
        return None
    try:
        return core(sets.show, set_id)
    except NotFound:
        return None


JOBS = (create_session, destroy_session, ls, cd, find)
