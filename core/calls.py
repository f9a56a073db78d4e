"""The door to the core: each call has a public name, and a job can make only the calls it declared.

What happens in the world is told by notices, after the commit. Source: sessions.md 1.2 (names of the events), 3.4
(notices cannot fail the call), 3.5 (8) (declared core calls are the only ones a job can make).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from core.errors import UndeclaredCall
from core.quota import Quota
from store import Tx

P = ParamSpec("P")
T = TypeVar("T")
# notice -> when it is told
NOTICES: dict[str, str] = {
    "set_entered": "A session entered a set: told as session.entered, and in the set as session.contents_changed.",
    "set_left": "A session left a set: told as session.left, and in the set as session.contents_changed.",
    "set_created": "A set was made.",
    "set_destroyed": "A set was deleted.",
    "token_added": "A token was put into a set.",
    "token_removed": "A token was taken out of a set.",
    "child_added": "A set was put below another.",
    "link_created": "A set was linked to another.",
    "link_destroyed": "A link from a set to another was taken away.",
    "token_created": "A token was made.",
    "token_destroyed": "A token was deleted.",
    "value_changed": "An attribute of a token was written, or turned on or off.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a user does: in or to which set, to which token, to which of its attributes; never a value.

    What goes is told before it is gone, in the same transaction. `place_id`: where a set is made or deleted.
    """

    event: str
    user_id: str
    set_id: str | None = None
    token_id: str | None = None
    attribute: str | None = None
    place_id: str | None = None


Tell = Callable[[Tx, Notice], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """In whose name and transaction a core call runs, who is told of what happens, and how much users may keep."""

    tx: Tx
    user_id: str
    tell: Tell | None = None
    quota: Quota = Quota()

    def say(
        self,
        event: str,
        *,
        set_id: str | None = None,
        token_id: str | None = None,
        attribute: str | None = None,
        place_id: str | None = None,
    ) -> None:
        """Tell that something happens: heard of when, and if, the transaction is committed. See `Notice`."""
        if self.tell is not None:
            self.tell(self.tx, Notice(event, self.user_id, set_id, token_id, attribute, place_id))


def kept(fn: Callable[Concatenate[Scene, P], T]) -> Callable[Concatenate[Scene, P], T]:
    """Have what a read finds for a user kept until something it used changes; see `Tx.kept`."""

    def look(tx: Tx, user_id: str, args: Any, kwargs: Any) -> T:
        return fn(Scene(tx, user_id), *args, **dict(kwargs))

    @wraps(fn)
    def find(scene: Scene, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return scene.tx.kept(look, scene.user_id, args, tuple(kwargs.items()))

    return find


class CoreCall(Generic[P, T]):
    """A core function with its public name, such as `core.set.show`; `is_reading` when it changes nothing.

    `before` does a piece of what the call would do at once to however many rows, and tells whether there may be more:
    it is run in transactions of its own, with the call's arguments, until there is not, and then the call.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[Concatenate[Scene, P], T],
        is_reading: bool,
        before: Callable[..., bool] | None,
    ) -> None:
        self.name = name
        self.fn = fn
        self.is_reading = is_reading
        self.before = before
        self.__doc__ = fn.__doc__

    def __call__(self, scene: Scene, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the call from inside the core, where no declaration is asked for."""
        return self.fn(scene, *args, **kwargs)


CALLS: dict[str, CoreCall[..., Any]] = {}


def core_call(
    name: str, *, is_reading: bool = False, before: Callable[..., bool] | None = None
) -> Callable[[Callable[Concatenate[Scene, P], T]], CoreCall[P, T]]:
    """Register a function over a `Scene` as the core call `name`; see `CoreCall`."""

    def register(fn: Callable[Concatenate[Scene, P], T]) -> CoreCall[P, T]:
        if name in CALLS:
            raise ValueError(f"core call {name!r} is registered twice")
        call = CoreCall(name, fn, is_reading, before)
        CALLS[name] = call
        return call

    return register


class Core:
    """What a job holds of the core: its declared calls, in its user's name, inside one transaction."""

    __slots__ = ("_declared", "_job", "_on_undeclared", "_scene")

    def __init__(
        self,
        scene: Scene,
        job: str,
        declared: frozenset[str],
        on_undeclared: Callable[[UndeclaredCall], None] | None = None,
    ) -> None:
        self._scene = scene
        self._job = job
        self._declared = declared
        self._on_undeclared = on_undeclared

    def __call__(self, call: CoreCall[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call. Raises UndeclaredCall, naming job and call, when the job did not declare it."""
        if call.name not in self._declared:
            raise self._undeclared(call.name)
        return call.fn(self._scene, *args, **kwargs)

    def piece(self, call: CoreCall[P, T], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Do a piece of what has to be done before a call, and tell whether there may be more; see `CoreCall`."""
        if call.name not in self._declared:
            raise self._undeclared(call.name)
        return call.before is not None and call.before(self._scene, *args, **kwargs)

    def named(self, name: str, /, **arguments: Any) -> Any:
        """Make a call by its public name: the way for plugins, which import no room below `jobs`."""
        if name not in self._declared or name not in CALLS:
            raise self._undeclared(name)
        return CALLS[name].fn(self._scene, **arguments)

    def _undeclared(self, call: str) -> UndeclaredCall:
        error = UndeclaredCall(self._job, call)
        if self._on_undeclared is not None:
            self._on_undeclared(error)
        return error
