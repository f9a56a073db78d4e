"""The door to the core: each call has a public name, and a job can make only the calls it declared.

Source: sessions.md 3.5 (8): declared core calls are the only calls a job can make, enforced by a capability object.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from core.errors import UndeclaredCall
from core.notices import Notice, Tell
from core.quota import Quota
from store import Tx

P = ParamSpec("P")
T = TypeVar("T")


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
        """Make a call by its public name: the way for guests, who import no room below `jobs`."""
        if name not in self._declared or name not in CALLS:
            raise self._undeclared(name)
        return CALLS[name].fn(self._scene, **arguments)

    def _undeclared(self, call: str) -> UndeclaredCall:
        error = UndeclaredCall(self._job, call)
        if self._on_undeclared is not None:
            self._on_undeclared(error)
        return error
