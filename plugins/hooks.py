"""Every extension point, on one page.

A plugin marks functions with `@hookimpl`; their names and parameter names are checked when it is registered. Each may
be `def` or `async def`. Filters run in the order of registration (`tryfirst` and `trylast` move a plugin), each sees
what the one before left, and each has a time budget; one that raises or hangs is named, and the others go on. Notices
come after the commit, in its order, and fail nothing.

Source: seeds.md S12.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pluggy
from pydantic import BaseModel

from heroscript import Action as PlayAction
from heroscript.filters import ActionFilter
from jobs.model import JobSpec

PROJECT = "rpcserver"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

M = TypeVar("M", bound=BaseModel)


class RunJob(Protocol):
    """Runs a job in the user's name and waits for its result; the plugin's time budget covers the wait."""

    def __call__(self, function: str, data: dict[str, Any]) -> Awaitable[Any]:
        """Return what the job returned, or raise what it raised."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a plugin may know of a session."""

    id: str
    user_id: str
    name: str
    working_set_id: str
    home_set_id: str
    is_interactive: bool
    context_name: str = "default"


@dataclass(frozen=True, slots=True)
class Exit:
    """A set the session could go to now."""

    set_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Place:
    """The set the session stands in, and the ways out; None where there is none, or none the user may take."""

    set_id: str
    name: str
    owner_id: str
    back: Exit | None
    forward: Exit | None
    up: Exit | None
    home: Exit | None
    has_children: bool
    has_links: bool


@dataclass(frozen=True, slots=True)
class Command:
    """An entry of the command pallet.

    Args:
        id: unique in the pallet, the `token_id` of `session.action`; begin it with the plugin's name and a dot.
        accepts: the kind of `value` it takes (`string`, `json`, ...), None when it takes none.
        sort: smaller stands first; entries of the same number stand by name.
        source: who offers it; filled in with the plugin's name.
    """

    id: str
    name: str
    description: str = ""
    accepts: str | None = None
    sort: float = 50
    source: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """Where an action sends the session: to a set, or `to` one of back, forward, up, home."""

    set_id: str | None = None
    to: str | None = None


@dataclass(slots=True)
class Pallet:
    """The value of the pallet filter: the commands so far."""

    session: SessionView
    place: Place
    run: RunJob
    commands: list[Command] = field(default_factory=list)


@dataclass(slots=True)
class Action:
    """The value of the action filter.

    Args:
        token_id: the command's id.
        value: what the caller gave for the command's write attribute.
        args: further arguments of the caller.
        response: what the plugins before answered, by plugin.
        handled: set it to claim the action; the first to do so owns its effect, later plugins only add to the answer.
        move: set it to have the session moved after the filter.
    """

    session: SessionView
    command: Command
    token_id: str
    value: Any
    args: dict[str, Any]
    run: RunJob
    response: dict[str, Any] = field(default_factory=dict)
    handled: bool = False
    move: Move | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """What the guards of a set are asked about: a session about to go from one set to another.

    `from_set_id` is None for a session that is being created there; its `working_set_id` is the user's home then.
    """

    session: SessionView
    from_set_id: str | None
    to_set_id: str
    run: RunJob


class CallMethod(Protocol):
    """Calls a method of the API in the session user's name and order, as far as their credential reaches."""

    def __call__(self, method: str, /, **params: Any) -> Awaitable[Any]:
        """Return the result, or raise what the caller would be told."""


class AskPerson(Protocol):
    """Puts a question to the session's people; see `JobContext.ask`. A plugin's time does not run meanwhile."""

    def __call__(
        self,
        text: str,
        *,
        schema: dict[str, Any] | None = None,
        choices: tuple[Any, ...] | None = None,
        default: Any = ...,
        is_secret: bool = False,
        timeout_s: float | None = None,
    ) -> Awaitable[Any]:
        """Return the answer, or raise AskDeclined."""


@dataclass(slots=True)
class Play:
    """The value of the play filter: one action of the session's playbook, offered to whoever plays its kind.

    Args:
        action: the action, its `{WORDS}` and `{secret:NAMES}` replaced.
        run: runs a job inside the play, whose row and log hide secrets; call: calls a method of the API, which is
            refused when a secret stands in its params; ask: asks a person, likewise.
        env: the session's words; what a plugin changes in it is stored with the action's end, unless it is a secret.
        coderoot: the folder all checkouts of the session lie in.
        log: adds a line to the play's log.
        holds_secret: tells whether a secret that was put into the action stands in a value; what a plugin keeps, or
            shows to others, must hold none.
        may: tells whether the scopes of whoever plays and of whoever brought the action include a name; require: raises
            unless they do.
        run_named: runs a job function that the script names, as `job.run` does, and as far as scopes let it.
        sleep: waits so many seconds; the play leaves its slot to others meanwhile.
        handled: set it to claim the action without looping over `find`; unset it to leave the action to others.
    """

    session: SessionView
    action: PlayAction
    run: RunJob
    call: CallMethod
    ask: AskPerson
    env: dict[str, str]
    coderoot: Path
    log: Callable[[str], None]
    may: Callable[[str], bool]
    require: Callable[[str], None]
    run_named: RunJob
    sleep: Callable[[float], Awaitable[None]]
    handled: bool = False
    holds_secret: Callable[[Any], bool] = lambda _: False

    def find(self, filter: str = "") -> Iterator[PlayAction]:
        """Yield the action when the filter matches it: who loops over it has handled it."""
        if ActionFilter(filter).matches(self.action.actor, self.action.name):
            self.handled = True
            yield self.action


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that has ended, as plugins hear of it; jobs that only read leave no trace and are not told.

    Args:
        outcome: `completed`, `failed` or `cancelled`.
        error: what became of it otherwise: `kind`, `message` and more.
    """

    id: str
    function: str
    outcome: str
    user_id: str
    session_id: str | None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MethodCall:
    """One call of a plugin's own method.

    Args:
        run: runs a job in the caller's name; call: calls a method of the API, as far as their credential reaches.
        progress: tells the caller how far it is: `progress(done, total or None, message)`.
    """

    user_id: str
    user_name: str
    run: RunJob
    call: CallMethod
    progress: Callable[[float, float | None, str], None]


@dataclass(frozen=True, slots=True)
class GuestMethod:
    """A method of the API that a plugin brings; made with `method`."""

    name: str
    params: type[BaseModel]
    fn: Callable[..., Any]
    result: Any = Any
    is_change: bool = True
    timeout_s: float | None = None


class ReadSettings(Protocol):
    """Reads the plugin's settings: the table `[plugin.NAME]` of rpcserver.toml, with the environment on top."""

    def __call__(self, model: type[M], /) -> M:
        """Return the settings as the model checks them; one that does not fit stops the start and is named."""


G = TypeVar("G", bound=Callable[..., Any])


def method(
    name: str,
    params: type[BaseModel],
    *,
    result: Any = Any,
    is_change: bool = True,
    timeout_s: float | None = None,
) -> Callable[[Callable[..., Any]], GuestMethod]:
    """Make a function the method `name` of the API, to be returned by `register_methods`.

    The function is called with a `MethodCall` and the checked params, may be `def` or `async def`, and returns JSON.
    Its docstring describes the method to clients. A `JobError` it raises is told to the caller in its words.

    Args:
        name: begins with the plugin's name and a dot; credentials reach it by scopes, as any method.
        params: the model that checks the call. result: the model or type of what is answered.
        is_change: an idempotency key counts. timeout_s: seconds it may take; None: the server's limit.
    """
    return lambda fn: GuestMethod(name, params, fn, result, is_change, timeout_s)


def plays(filter: str, *, is_calling: bool = False) -> Callable[[G], G]:
    """Make a function of a plugin play the actions that `filter` matches, such as `gittools.*` or `site.page,site.add`.

    The function is called with a `Play` for each of them, one after another, in the order of the playbook's
    priorities; a plugin may have several such functions. What it returns is the action's result. Naming every action
    rather than `*` lets the server name the nearest one when a script holds a misspelt one.

    The scopes of whoever plays an action, and of whoever brought it, have to include its name.

    Args:
        is_calling: the function does nothing but call methods and run job functions, which are asked for themselves,
            and use what `Play` offers: then the action needs no scope of its own.
    """

    def mark(function: G) -> G:
        function.play_filter = filter  # type: ignore[attr-defined]
        function.is_calling = is_calling  # type: ignore[attr-defined]
        marked: G = hookimpl(specname="play_action")(function)
        return marked

    return mark


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a credential of another identity system is.

    Args:
        user_name: the user here, by name.
        scopes: the methods it reaches, names with `*` and `?`.
        expires_at: UTC milliseconds; the connection is closed then. None: it does not end.
        may_be_made: the user is made when there is none of that name.
        label: shown to the user beside their connections; the plugin's name when empty.
    """

    user_name: str
    scopes: tuple[str, ...] = ("*",)
    expires_at: int | None = None
    may_be_made: bool = False
    label: str = ""


Verdict = str | None
Answer = dict[str, Any]


class Hooks:
    """The extension points."""

    @hookspec
    def session_pallet(self, pallet: Pallet) -> list[Command] | None:
        """Filter: return commands to add to the pallet, or change `pallet.commands`; None adds nothing."""

    @hookspec
    def session_action(self, action: Action) -> Any:
        """Filter: answer a command. What is returned stands in `response` by the plugin's name; None adds nothing."""

    @hookspec
    def set_leaving(self, passage: Passage) -> Verdict:
        """Guard: return a message to refuse that the session leaves the set, None to allow. Every refusal counts."""

    @hookspec
    def set_entering(self, passage: Passage) -> Verdict:
        """Guard: return a message to refuse that the session enters the set, None to allow. Every refusal counts."""

    @hookspec
    def play_action(self, play: Play) -> Any:
        """Filter: play one action of a playbook; register with `plays`. What the plugin returns is its result."""

    @hookspec
    def authenticate(self, credential: str) -> Identity | None:
        """First answer wins: return whose the credential of another system is, None when it is not of that system.

        Asked only for what is no credential of this server. A plugin that raises or takes too long lets nobody in.
        """

    @hookspec
    def session_create(self, session: SessionView, answer: Answer) -> Answer | None:
        """Filter: return what `session.create` is to answer instead, None to leave it as it is."""

    @hookspec
    def session_get(self, session: SessionView, answer: Answer) -> Answer | None:
        """Filter: return what `session.get` is to answer instead, None to leave it as it is."""

    @hookspec
    def session_ls(self, session: SessionView, answer: Answer) -> Answer | None:
        """Filter: return the listing to answer instead, None to leave it; also the one `session.cd` ends with."""

    @hookspec
    def session_created(self, session: SessionView) -> None:
        """Notice, after the commit: a session was made."""

    @hookspec
    def session_entered(self, session: SessionView, set_id: str) -> None:
        """Notice, after the commit: a session has come into a set; `session` is as it stands now."""

    @hookspec
    def session_left(self, session: SessionView, set_id: str) -> None:
        """Notice, after the commit: a session has left a set; `session` is as it stands now."""

    @hookspec
    def session_destroyed(self, session: SessionView) -> None:
        """Notice, after the commit: a session is gone; `session` is as it was."""

    @hookspec
    def job_finished(self, job: FinishedJob) -> None:
        """Notice, after the commit: a job has ended."""

    @hookspec
    def register_settings(self, read: ReadSettings) -> BaseModel | None:
        """Collect, before all else: read the plugin's settings with `read(Model)`, keep them, and return them."""

    @hookspec
    def register_methods(self) -> Iterable[GuestMethod]:
        """Collect: return the methods of the API the plugin brings, each made with `method`."""
        return ()

    @hookspec
    def register_jobs(self) -> Iterable[JobSpec]:
        """Collect: return the job functions the plugin brings."""
        return ()
