"""The bus: carries filters and guards to the plugins, one after another, each fenced and bounded in time.

The one place, with the runner and the dispatcher, that catches every exception: a plugin's fault must not become ours.
"""

import asyncio
import inspect
import math
import re
import time
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import NoneType
from typing import Any, TypeVar

import orjson
import pluggy
import structlog
from pydantic import BaseModel, ValidationError

from heroscript.filters import ActionFilter
from jobs.breaker import Breaker
from jobs.clock import CURRENT, Clock
from jobs.errors import FORESEEN, JobError
from jobs.model import JobSpec, faults
from plugins.errors import BadPlugin, LeftOut, PluginError, PluginLate, printable
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
    ReadSettings,
    SessionView,
)

log = structlog.get_logger("plugins")

_SECRETIVE = frozenset({"play_action", "authenticate"})
LATE_TIMES = 2  # for one user, before a plugin is left out
REST_S = 30.0


class Bus:
    """The registered plugins.

    Args:
        filter_timeout_s: what a plugin may take in the pallet filter and as a guard.
        action_timeout_s: what a plugin may take in the action filter, waiting for its jobs included; while one of them
            asks a person no plugin's time runs.
        foreseen: errors that are meant for the caller, and no fault of a plugin that lets them pass.
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
        """The plugins' names in the order they were registered."""
        return [name for name, _ in self._manager.list_name_plugin()]

    def register(self, plugin: object, name: str) -> None:
        """Take a plugin in. Raises BadPlugin, naming it, when a hook of it does not fit or its name is taken."""
        self._heard.clear()
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise BadPlugin(name, str(error)) from error

    def has(self, hook: str) -> bool:
        """Tell whether any plugin listens; where none does, nothing has to be prepared."""
        if hook not in self._heard:
            self._heard[hook] = bool(getattr(self._manager.hook, hook).get_hookimpls())
        return self._heard[hook]

    def collect(self, hook: str, arguments: Callable[[str], dict[str, Any]] = lambda name: {}) -> list[tuple[str, Any]]:
        """Return what each plugin brings by a `register_` hook, as (plugin, what). Raises BadPlugin for one that fails.

        Args:
            arguments: what the hook is called with, by the plugin's name.
        """
        found = []
        for name, plugin in self._plugins(hook):
            try:
                brought = plugin(**arguments(name))
                found.append((name, list(brought) if isinstance(brought, Iterable) else brought))
            except (BadPlugin, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise BadPlugin(name, f"{hook} raised {type(error).__name__}: {printable(error)}") from error
        return found

    async def pallet(self, pallet: Pallet) -> list[Command]:
        """Collect the commands. What a failing plugin offered is left out, and the log names it."""
        for name, plugin in self._plugins("session_pallet"):
            before = list(pallet.commands)
            take = partial(_offered, name, pallet, {id(command) for command in before})
            try:
                pallet.commands = await self._ask_or_leave_out(
                    name, "session_pallet", plugin, self._filter_timeout_s, take=take, pallet=pallet
                )
            except PluginError as error:
                pallet.commands = before
                _note(error)
        return sorted(pallet.commands, key=lambda command: (command.sort, command.name, command.id))

    async def action(self, action: Action) -> str | None:
        """Pass an action through the plugins and return the name of the one that handled it, None if nobody did.

        Raises PluginError when a plugin failed and nobody handled the action.
        """
        handled_by = None
        first_error = None
        for name, plugin in self._plugins("session_action"):
            move = action.move
            try:
                answer = await self._ask_or_leave_out(
                    name,
                    "session_action",
                    plugin,
                    self._action_timeout_s,
                    lambda: action.handled is True,
                    take=partial(_answered, action),
                    action=action,
                )
            except PluginError as error:
                _note(error)
                action.response[name] = {
                    "error": printable(error.cause if isinstance(error.cause, JobError) else error)
                }
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
        """Offer an action of a playbook to the plugins that play its kind, until one has handled it.

        Returns who handled it (None: nobody) and what they returned. Raises PluginError: the action failed, whoever
        else might have played it.
        """
        for name, plugin in self._players(play.action.actor, play.action.name, has_plain=True):
            answer = await self._ask(name, "play_action", plugin, None, play=play)
            if play.handled or answer is not None:
                return name, answer
        return None, None

    def player_of(self, actor: str, name: str) -> str | None:
        """Return who said, with `plays`, that they play such an action."""
        return next((plugin for plugin, _ in self._players(actor, name, has_plain=False)), None)

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
        """Tell whether a plugin plays actions without having said which."""
        return any(not _filter_of(one) for one in self._implementations("play_action"))

    def playable(self) -> list[str]:
        """Return the names and patterns of the actions that some plugin plays."""
        filters = (_filter_of(one) for one in self._implementations("play_action"))
        return [item.strip() for text in filters if text for item in text.split(",")]

    async def refusal(self, hook: str, passage: Passage) -> tuple[str, str, int] | None:
        """Ask every guard and return (plugin, message, how many refuse) of the first that refuses, None if none does.

        Raises PluginError when one fails before any other refused: that refuses, too.
        """
        first: tuple[str, str] | None = None
        count = 0
        for name, plugin in self._plugins(hook):
            try:
                verdict = await self._ask_or_leave_out(
                    name, hook, plugin, self._filter_timeout_s, take=_verdict, passage=passage
                )
            except PluginError as error:
                if first is None:
                    raise
                _note(error)
                verdict = str(error)
            if verdict is not None:
                first = first or (name, verdict)
                count += 1
        return (*first, count) if first is not None else None

    async def identity(self, credential: str) -> tuple[str, Identity] | None:
        """Ask whose a foreign credential is; return (plugin, answer) of the first that knows, None if nobody does."""
        for name, plugin in self._plugins("authenticate"):
            try:
                answer = await self._ask_or_leave_out(
                    name, "authenticate", plugin, self._filter_timeout_s, take=_identity, credential=credential
                )
            except PluginError as error:
                _note(error)
                continue
            if answer is not None:
                return name, answer
        return None

    async def answer(self, hook: str, session: SessionView, answer: dict[str, Any]) -> dict[str, Any]:
        """Pass an answer through the plugins and return what they left of it; one that fails has changed nothing."""
        for name, plugin in self._plugins(hook):
            offered = orjson.loads(orjson.dumps(answer))  # its own: what it does to that counts if it returns it
            try:
                given = await self._ask_or_leave_out(
                    name, hook, plugin, self._filter_timeout_s, take=_changed, session=session, answer=offered
                )
                answer = answer if given is None else given
            except PluginError as error:
                _note(error)
        return answer

    async def tell(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin of something that has happened; what one makes of it harms nobody."""
        for name, plugin in self._plugins(hook):
            try:
                await self._ask_or_leave_out(name, hook, plugin, self._filter_timeout_s, **arguments)
            except PluginError as error:
                _note(error)

    async def method(self, plugin: str, method: GuestMethod, call: MethodCall, params: BaseModel) -> Any:
        """Run a plugin's method and return what it answers. Raises PluginError."""
        return await self._ask(plugin, method.name, partial(method.fn, call, params), None, take=_plain)

    def _plugins(self, hook: str) -> Iterator[tuple[str, Any]]:
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
        plugin: Any,
        timeout_s: float,
        is_own: Callable[[], bool] = lambda: False,
        *,
        take: Callable[[Any], Any] = lambda answer: answer,
        **arguments: Any,
    ) -> Any:
        """Ask a plugin that everybody passes, unless it has kept them too long. Raises LeftOut or PluginError.

        Args:
            is_own: tells afterwards that the plugin took the matter on: then the time is that of the matter.
        """
        thing = (name, hook)
        wait_s = self.breaker.wait_s(thing)
        if wait_s:
            raise LeftOut(name, hook, wait_s)
        try:
            answer = await self._ask(name, hook, plugin, timeout_s, take=take, **arguments)
        except PluginLate:
            if not is_own():
                self.breaker.late(thing)
            raise
        except PluginError:
            self.breaker.answered(thing)
            raise
        self.breaker.answered(thing)
        return answer

    async def _ask(
        self,
        name: str,
        hook: str,
        plugin: Any,
        timeout_s: float | None,
        *,
        take: Callable[[Any], Any] = lambda answer: answer,
        **arguments: Any,
    ) -> Any:
        """Ask a plugin, and return what `take` makes of its answer. Raises PluginError for whatever goes wrong.

        Args:
            take: looks at the answer inside the fence, for what a plugin hands over may raise when it is looked at.
        """
        clock = Clock(timeout_s, CURRENT.get())
        outside = CURRENT.set(clock)
        task = asyncio.current_task()
        stops = task.cancelling() if task is not None else 0
        try:
            answer = plugin(**arguments)
            if inspect.isawaitable(answer):
                async with clock.start():
                    answer = await answer
            return take(answer)
        except Unusable as error:
            raise PluginError(name, hook, str(error)) from error
        except TimeoutError as error:
            if clock.is_up:
                raise PluginLate(name, hook, f"took longer than {timeout_s:g} s", error) from error
            raise PluginError(name, hook, "raised TimeoutError", error) from error
        except KeyboardInterrupt:
            raise
        except asyncio.CancelledError as error:
            if task is not None and task.cancelling() > stops:
                raise
            # Nobody stopped it: what it waited for was cancelled, or it raised this itself.
            raise PluginError(name, hook, "raised CancelledError", error) from error
        except BaseException as error:
            if hook in _SECRETIVE or isinstance(error, self._foreseen):
                # Not the error itself: its text may repeat what the plugin was asked with, which may be a secret.
                log.info("plugin_raised", plugin=name, hook=hook, error=type(error).__name__, where=_where(error))
            else:
                log.info("plugin_raised", plugin=name, hook=hook, exc_info=error)
            raise PluginError(name, hook, f"raised {type(error).__name__}", error) from error
        finally:
            clock.end()
            CURRENT.reset(outside)
            await clock.back()  # whatever became of the plugin: who comes next acts in the call's turn


class Unusable(Exception):
    """What a plugin returned cannot be used; the text says why, as `returned ...`."""


def _note(error: PluginError) -> None:
    if not isinstance(error, LeftOut):  # that was said when it was left out
        log.warning("plugin_failed", plugin=error.plugin, hook=error.hook, reason=str(error))


def _call_with(implementation: Any) -> Any:
    # A plugin may take fewer parameters than the hook offers.
    def call(**arguments: Any) -> Any:
        return implementation.function(*[arguments[name] for name in implementation.argnames])

    return call


def _offered(plugin: str, pallet: Pallet, known: set[int], added: Any) -> list[Command]:
    """Return the pallet's commands, those that the plugin changed or added checked. Raises Unusable."""
    if not isinstance(pallet.commands, list) or not isinstance(added, list | tuple | NoneType):
        raise Unusable("left or returned what is no list of commands")
    found = []
    for command in (*pallet.commands, *(added or ())):
        if id(command) not in known:
            if not isinstance(command, Command):
                raise Unusable(f"offered {type(command).__name__} where a Command is due")
            command = command if command.source else replace(command, source=plugin)
            texts = (command.id, command.name, command.description, command.source)
            if not all(isinstance(text, str) for text in texts) or not isinstance(command.sort, int | float):
                raise Unusable("offered a Command whose texts are no texts, or whose sort is no number")
            _plain(command)
        found.append(command)
    return found


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames[-5:]))


def _filter_of(implementation: Any) -> str:
    return getattr(implementation.function, "play_filter", "")


def _answered(action: Action, answer: Any) -> Any:
    """Return the answer as JSON, what the plugin set on the action checked. Raises Unusable."""
    if not isinstance(action.move, Move | None) or not isinstance(action.handled, bool):
        raise Unusable("set `move` to what is no Move, or `handled` to what is no bool")
    if action.move is not None and not all(
        isinstance(part, str | None) for part in (action.move.set_id, action.move.to)
    ):
        raise Unusable("set `move` to a Move whose set_id or to is no text")
    if not isinstance(action.response, dict):
        raise Unusable("left no dict in `response`")
    return _plain(answer)


def _verdict(verdict: Any) -> str | None:
    if not isinstance(verdict, str | None):
        raise Unusable(f"returned {type(verdict).__name__} where a message, or None, is due")
    return None if verdict is None else printable(verdict)


def _identity(answer: Any) -> Identity | None:
    if answer is None:
        return None
    if not isinstance(answer, Identity):
        raise Unusable(f"returned {type(answer).__name__} where an Identity, or None, is due")
    has_texts = all(isinstance(text, str) for text in (answer.user_name, answer.label, *answer.scopes))
    is_at_a_time = answer.expires_at is None or type(answer.expires_at) is int
    if not has_texts or not isinstance(answer.scopes, tuple | list) or not is_at_a_time:
        raise Unusable(
            "returned an Identity whose names or scopes are no texts, or whose expires_at is no whole number"
        )
    _plain([answer.user_name, answer.label, *answer.scopes, answer.expires_at])
    return answer


def _changed(answer: Any) -> dict[str, Any] | None:
    if not isinstance(answer, dict | None):
        raise Unusable(f"returned {type(answer).__name__} where an answer, or None, is due")
    changed: dict[str, Any] | None = _plain(answer)
    return changed


def _plain(value: Any) -> Any:
    """Return a value as it is after it went over the wire. Raises Unusable for what is no JSON."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError as error:
        raise Unusable(f"answered what is no JSON ({printable(error)})") from error


M = TypeVar("M", bound=BaseModel)
_METHOD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


def settings(bus: Bus, given: Mapping[str, Mapping[str, Any]]) -> dict[str, BaseModel]:
    """Have the plugins read their settings, and return these by plugin.

    Raises BadPlugin for what does not fit, and for settings that no plugin reads: their name is misspelt.
    """
    unread = set(given)

    def reader(plugin: str) -> ReadSettings:
        def read(model: type[M], /) -> M:
            unread.discard(plugin)
            try:
                return model.model_validate({name: _value(value) for name, value in given.get(plugin, {}).items()})
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                field = ".".join(str(part) for part in first["loc"])
                raise BadPlugin(plugin, f"setting plugin.{plugin}.{field}: {first['msg']}") from None

        return read

    found = bus.collect("register_settings", lambda plugin: {"read": reader(plugin)})
    for plugin in sorted(unread):
        why = "it reads none" if plugin in bus.names else "there is no such plugin"
        raise BadPlugin(plugin, f"settings are given for it, but {why}")
    return {plugin: read for plugin, read in found if isinstance(read, BaseModel)}


def jobs(bus: Bus, taken: Container[str]) -> list[JobSpec]:
    """Return the job functions the plugins bring. Raises BadPlugin, also when a name is among those `taken`."""
    found: dict[str, JobSpec] = {}
    for plugin, brought in bus.collect("register_jobs"):
        for spec in _listed(plugin, "register_jobs", brought):
            if not isinstance(spec, JobSpec):
                raise BadPlugin(plugin, f"register_jobs returned {type(spec).__name__} where a job is due")
            if wrong := faults(spec):
                raise BadPlugin(plugin, f"its job function {spec.name!r} cannot work: {'; '.join(wrong)}")
            if spec.name in found or spec.name in taken:
                raise BadPlugin(plugin, f"there is a job function {spec.name!r} already")
            found[spec.name] = replace(spec, plugin=plugin)
    return list(found.values())


def methods(bus: Bus, taken: Container[str]) -> list[tuple[str, GuestMethod]]:
    """Return the methods of plugins, as (plugin, method). Raises BadPlugin, also for a name that is not its own."""
    found: dict[str, tuple[str, GuestMethod]] = {}
    for plugin, brought in bus.collect("register_methods"):
        for method in _listed(plugin, "register_methods", brought):
            if not isinstance(method, GuestMethod):
                raise BadPlugin(plugin, f"register_methods returned {type(method).__name__} where a method is due")
            if not method.name.startswith(f"{plugin}.") or not _METHOD.fullmatch(
                method.name.removeprefix(f"{plugin}.")
            ):
                raise BadPlugin(plugin, f"its method {method.name!r} must be named {plugin}.WORD, of a-z, 0-9 and _")
            if not (isinstance(method.params, type) and issubclass(method.params, BaseModel)):
                raise BadPlugin(plugin, f"the params of its method {method.name!r} are no pydantic model")
            if method.timeout_s is not None and not 0 < method.timeout_s < math.inf:
                raise BadPlugin(plugin, f"timeout_s of its method {method.name!r} is no number of seconds above 0")
            if method.name in found or method.name in taken:
                raise BadPlugin(plugin, f"there is a method {method.name!r} already")
            found[method.name] = (plugin, method)
    return list(found.values())


def _value(value: Any) -> Any:
    # The environment holds text: lists and tables stand there as JSON.
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _listed(plugin: str, hook: str, brought: Any) -> list[Any]:
    if brought is None:
        return []
    if not isinstance(brought, list):
        raise BadPlugin(plugin, f"{hook} returned {type(brought).__name__} where a list is due")
    return brought


HOOKS = ("session_created", "session_entered", "session_left", "session_destroyed", "job_finished")


class Notices:
    """What is to be told, one after another. It is not kept over a restart: what must not be missed is an event.

    Args:
        max_waiting: what plugins may fall behind by; what comes then is not told, and the log says so.
    """

    def __init__(self, bus: Bus, max_waiting: int) -> None:
        self._bus = bus
        self._wanted = frozenset(hook for hook in HOOKS if bus.has(hook))
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(max_waiting)

    def wants(self, hook: str) -> bool:
        """Tell whether any plugin listens."""
        return hook in self._wanted

    def put(self, hook: str, **arguments: Any) -> None:
        """Have plugins told; called once it is on disk."""
        try:
            self._queue.put_nowait((hook, arguments))
        except asyncio.QueueFull:
            log.warning("notice_dropped", hook=hook, reason="the plugins are too far behind")

    async def run(self) -> None:
        """Tell what comes, until cancelled."""
        while True:
            hook, arguments = await self._queue.get()
            await self._bus.tell(hook, **arguments)
