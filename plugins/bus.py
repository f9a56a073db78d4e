"""The bus: carries filters and guards to the guests, one after another, each fenced and bounded in time.

The one place, with the runner and the dispatcher, that catches every exception: a guest's fault must not become ours.
"""

import inspect
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pluggy
import structlog
from pydantic import BaseModel

from jobs.breaker import Breaker
from jobs.clock import CURRENT, Clock
from jobs.errors import FORESEEN, JobError
from play.filters import ActionFilter
from plugins.errors import BadPlugin, LeftOut, PluginError, PluginLate
from plugins.hooks import (
    PROJECT,
    Action,
    Command,
    GuestMethod,
    Hooks,
    Identity,
    MethodCall,
    Move,
    Pallet,
    Passage,
    Play,
    SessionView,
)

log = structlog.get_logger("plugins")

_SECRETIVE = frozenset({"play_action", "authenticate"})
LATE_TIMES = 2  # for one user, before a plugin is left out
REST_S = 30.0


class Bus:
    """The registered guests.

    Args:
        filter_timeout_s: what a guest may take in the pallet filter and as a guard.
        action_timeout_s: what a guest may take in the action filter, waiting for its jobs included; while one of them
            asks a person no guest's time runs.
        foreseen: errors that are meant for the caller, and no fault of a guest that lets them pass.
    """

    def __init__(
        self,
        filter_timeout_s: float,
        action_timeout_s: float,
        foreseen: tuple[type[BaseException], ...] = FORESEEN,
    ) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self._filter_timeout_s = filter_timeout_s
        self._action_timeout_s = action_timeout_s
        self._foreseen = foreseen
        self._heard: dict[str, bool] = {}
        self._filters: dict[str, ActionFilter] = {}  # by what plugins said they play
        self.breaker = Breaker(LATE_TIMES, REST_S, time.monotonic)

    @property
    def names(self) -> list[str]:
        """The guests' names in the order they were registered."""
        return [name for name, _ in self._manager.list_name_plugin()]

    def register(self, guest: object, name: str) -> None:
        """Take a guest in. Raises BadPlugin, naming it, when a hook of it does not fit or its name is taken."""
        self._heard.clear()
        try:
            self._manager.register(guest, name=name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise BadPlugin(name, str(error)) from error

    def has(self, hook: str) -> bool:
        """Tell whether any guest listens; where none does, nothing has to be prepared."""
        if hook not in self._heard:
            self._heard[hook] = bool(getattr(self._manager.hook, hook).get_hookimpls())
        return self._heard[hook]

    def collect(self, hook: str, arguments: Callable[[str], dict[str, Any]] = lambda name: {}) -> list[tuple[str, Any]]:
        """Return what each guest brings by a `register_` hook, as (guest, what). Raises BadPlugin for one that fails.

        Args:
            arguments: what the hook is called with, by the guest's name.
        """
        found = []
        for name, guest in self._guests(hook):
            try:
                brought = guest(**arguments(name))
                found.append((name, list(brought) if isinstance(brought, Iterable) else brought))
            except BadPlugin:
                raise
            except (Exception, SystemExit) as error:
                raise BadPlugin(name, f"{hook} raised {error!r}") from error
        return found

    async def pallet(self, pallet: Pallet) -> list[Command]:
        """Collect the commands. What a failing guest offered is left out, and the log names it."""
        for name, guest in self._guests("session_pallet"):
            before = list(pallet.commands)
            try:
                added = await self._ask_or_leave_out(
                    name, "session_pallet", guest, self._filter_timeout_s, pallet=pallet
                )
                pallet.commands = _checked(name, pallet.commands, added)
            except PluginError as error:
                pallet.commands = before
                _note(error)
        return sorted(pallet.commands, key=lambda command: (command.sort, command.name, command.id))

    async def action(self, action: Action) -> str | None:
        """Pass an action through the guests and return the name of the one that handled it, None if nobody did.

        Raises PluginError when a guest failed and nobody handled the action.
        """
        handled_by = None
        first_error = None
        for name, guest in self._guests("session_action"):
            move = action.move
            try:
                answer = await self._ask_or_leave_out(
                    name, "session_action", guest, self._action_timeout_s, lambda: action.handled, action=action
                )
                _check_answer(name, answer, action.move)
            except PluginError as error:
                _note(error)
                said = str(error.cause if isinstance(error.cause, JobError) else error)
                action.response[name] = {"error": said.encode("utf-8", "replace").decode()}
                action.handled, action.move = handled_by is not None, move
                first_error = first_error or error
                continue
            if answer is not None:
                action.response[name] = answer
            if handled_by is None and action.handled:
                handled_by = name
            elif handled_by is not None:
                action.move = move  # only who handled it has effects
        if handled_by is None and first_error is not None:
            raise first_error
        return handled_by

    async def play(self, play: Play) -> tuple[str | None, Any]:
        """Offer an action of a playbook to the guests that play its kind, until one has handled it.

        Returns who handled it (None: nobody) and what he returned. Raises PluginError: the action failed, whoever
        else might have played it.
        """
        for name, guest in self._players(play.action.actor, play.action.name, has_plain=True):
            answer = await self._ask(name, "play_action", guest, None, play=play)
            if play.handled or answer is not None:
                return name, answer
        return None, None

    def player_of(self, actor: str, name: str) -> str | None:
        """Return who said, with `plays`, that he plays such an action."""
        return next((guest for guest, _ in self._players(actor, name, has_plain=False)), None)

    def scopes_of(self, actor: str, name: str) -> tuple[str, ...]:
        """Return what the scopes have to include for an action to be played: its name, unless it is only made of calls.

        These are asked for themselves.
        """
        for one in self._implementations("play_action"):
            text = _filter_of(one)
            if not text or ActionFilter(text).matches(actor, name):
                return () if getattr(one.function, "is_calling", False) else (f"{actor}.{name}",)
        return ()

    def can_play_unsaid(self) -> bool:
        """Tell whether a guest plays actions without having said which."""
        return any(not _filter_of(one) for one in self._implementations("play_action"))

    def playable(self) -> list[str]:
        """Return the names and patterns of the actions that some guest plays."""
        filters = (_filter_of(one) for one in self._implementations("play_action"))
        return [item.strip() for text in filters if text for item in text.split(",")]

    async def refusal(self, hook: str, passage: Passage) -> tuple[str, str, int] | None:
        """Ask every guard and return (guest, message, how many refuse) of the first that refuses, None if none does.

        Raises PluginError when one fails before any other refused: that refuses, too.
        """
        first: tuple[str, str] | None = None
        count = 0
        for name, guest in self._guests(hook):
            try:
                verdict = await self._ask_or_leave_out(name, hook, guest, self._filter_timeout_s, passage=passage)
            except PluginError as error:
                if first is None:
                    raise
                _note(error)
                verdict = str(error)
            if verdict is not None:
                first = first or (name, str(verdict))
                count += 1
        return (*first, count) if first is not None else None

    async def identity(self, credential: str) -> tuple[str, Identity] | None:
        """Ask whose a foreign credential is; return (guest, answer) of the first that knows it, None if nobody does."""
        for name, guest in self._guests("authenticate"):
            try:
                answer = await self._ask_or_leave_out(
                    name, "authenticate", guest, self._filter_timeout_s, credential=credential
                )
            except PluginError as error:
                _note(error)
                continue
            if isinstance(answer, Identity):
                return name, answer
            if answer is not None:
                log.warning("plugin_failed", plugin=name, hook="authenticate", reason="it returned no Identity")
        return None

    async def answer(self, hook: str, session: SessionView, answer: dict[str, Any]) -> dict[str, Any]:
        """Pass an answer through the guests and return what they left of it; one that fails has changed nothing."""
        for name, guest in self._guests(hook):
            offered = orjson.loads(orjson.dumps(answer))  # his own: what he does to it counts if he returns it
            try:
                given = await self._ask_or_leave_out(
                    name, hook, guest, self._filter_timeout_s, session=session, answer=offered
                )
                if given is None:
                    continue
                if not isinstance(given, dict):
                    raise PluginError(name, hook, f"returned {type(given).__name__} where an answer is due")
                _check_json(name, hook, given)
                answer = given
            except PluginError as error:
                _note(error)
        return answer

    async def tell(self, hook: str, **arguments: Any) -> None:
        """Tell every guest of something that has happened; what one makes of it harms nobody."""
        for name, guest in self._guests(hook):
            try:
                await self._ask_or_leave_out(name, hook, guest, self._filter_timeout_s, **arguments)
            except PluginError as error:
                _note(error)

    async def method(self, guest: str, method: GuestMethod, call: MethodCall, params: BaseModel) -> Any:
        """Run a guest's method and return what it answers. Raises PluginError."""
        answer = await self._ask(guest, method.name, partial(method.fn, call, params), None)
        if isinstance(answer, BaseModel):
            return answer.model_dump(mode="json")
        _check_json(guest, method.name, answer)
        return answer

    def _guests(self, hook: str) -> Iterator[tuple[str, Any]]:
        for one in self._implementations(hook):
            yield one.plugin_name, _call_with(one)

    def _players(self, actor: str, name: str, has_plain: bool) -> Iterator[tuple[str, Any]]:
        for one in self._implementations("play_action"):
            text = _filter_of(one)
            if self._filter(text).matches(actor, name) if text else has_plain:
                yield one.plugin_name, _call_with(one)

    def _filter(self, text: str) -> ActionFilter:
        if text not in self._filters:
            self._filters[text] = ActionFilter(text)
        return self._filters[text]

    def _implementations(self, hook: str) -> list[Any]:
        # pluggy lists the last registered as the one to call first; a filter here runs in order of registration.
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return sorted(found, key=lambda item: (not item.tryfirst) + item.trylast)

    async def _ask_or_leave_out(
        self,
        name: str,
        hook: str,
        guest: Any,
        timeout_s: float,
        is_own: Callable[[], bool] = lambda: False,
        **arguments: Any,
    ) -> Any:
        """Ask a guest that everybody passes, unless it has kept them too long. Raises LeftOut or PluginError.

        Args:
            is_own: tells afterwards that the guest took the matter on: then the time is that of the matter.
        """
        thing = (name, hook)
        wait_s = self.breaker.wait_s(thing)
        if wait_s:
            raise LeftOut(name, hook, wait_s)
        try:
            answer = await self._ask(name, hook, guest, timeout_s, **arguments)
        except PluginLate:
            if not is_own():
                self.breaker.late(thing)
            raise
        except PluginError:
            self.breaker.answered(thing)
            raise
        self.breaker.answered(thing)
        return answer

    async def _ask(self, name: str, hook: str, guest: Any, timeout_s: float | None, **arguments: Any) -> Any:
        clock = Clock(timeout_s, CURRENT.get())
        outside = CURRENT.set(clock)
        try:
            answer = guest(**arguments)
            if inspect.isawaitable(answer):
                async with clock.start():
                    answer = await answer
            return answer
        except TimeoutError as error:
            if clock.is_up:
                raise PluginLate(name, hook, f"took longer than {timeout_s:g} s", error) from error
            raise PluginError(name, hook, "raised TimeoutError", error) from error
        except (Exception, SystemExit) as error:
            if hook in _SECRETIVE or isinstance(error, self._foreseen):
                # Not the error itself: its text may repeat what the guest was asked with, which may be a secret.
                log.info("plugin_raised", plugin=name, hook=hook, error=type(error).__name__, where=_where(error))
            else:
                log.info("plugin_raised", plugin=name, hook=hook, exc_info=error)
            raise PluginError(name, hook, f"raised {type(error).__name__}", error) from error
        finally:
            clock.end()
            CURRENT.reset(outside)
            await clock.back()  # whatever became of the guest: who comes next acts in the call's turn


def _note(error: PluginError) -> None:
    if not isinstance(error, LeftOut):  # that was said when it was left out
        log.warning("plugin_failed", plugin=error.plugin, hook=error.hook, reason=str(error))


def _call_with(implementation: Any) -> Any:
    # A guest may take fewer parameters than the hook offers.
    def call(**arguments: Any) -> Any:
        return implementation.function(*[arguments[name] for name in implementation.argnames])

    return call


def _checked(guest: str, left: Any, added: Any) -> list[Command]:
    try:
        return [_named(command, guest) for command in (*left, *(added or ()))]
    except TypeError as error:
        raise PluginError(guest, "session_pallet", "left or returned what is no list of commands", error) from error


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-5:]))


def _filter_of(implementation: Any) -> str:
    return getattr(implementation.function, "play_filter", "")


def _named(command: Command, guest: str) -> Command:
    fits = isinstance(command, Command) and isinstance(command.id, str) and isinstance(command.name, str)
    if not fits or not isinstance(command.sort, int | float):
        raise PluginError(guest, "session_pallet", f"offered {command!r:.200} where a Command is due")
    if command.source:
        return command
    _check_json(guest, "session_pallet", command)
    return replace(command, source=guest)


def _check_answer(guest: str, answer: Any, move: Any) -> None:
    if move is not None and not isinstance(move, Move):
        raise PluginError(guest, "session_action", f"set move to {move!r:.200} where a Move is due")
    _check_json(guest, "session_action", answer)


def _check_json(guest: str, hook: str, value: Any) -> None:
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise PluginError(guest, hook, f"answered what is no JSON ({error})", error) from error
