"""`Context` and `Session`: what playbooks are executed in, and how they are written as heroscript.

Both can be kept in key-value stores; who keeps them elsewhere fills them in, and has no `stores`.
Source: seeds.md P1 to P9; heroscript.md 5.4, 10.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heroscript.errors import BadKey, MissingKey, PlayError, StoreError
from heroscript.kvs import Collection, Store
from heroscript.ourtime import OurTime
from heroscript.params import Params
from heroscript.playbook import PlayBook
from heroscript.writer import action_text

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.-]{3,100}")
_SESSIONS = "sessions"
_LATEST = "latest session"
_REFERENCE = re.compile(r"\{(?=\w+\}|secret:)")  # what a play would replace: {NAME}, {secret:NAME}


@dataclass(slots=True)
class Context:
    """What sessions share: a name, parameters, the store of configurations, and where code is checked out."""

    stores: Collection | None
    name: str = "default"
    id: int = 0
    params: Params = field(default_factory=Params)
    interactive: bool = True
    coderoot: str = ""

    def __post_init__(self) -> None:
        if self.stores is not None:  # there names become those of files
            _check_name(self.name)

    @property
    def guid(self) -> str:
        """`id:name`."""
        return f"{self.id}:{self.name}"

    def session_new(self, name: str = "", *, params: str = "", start: str = "", interactive: bool = True) -> "Session":
        """Make a session and remember it as the latest.

        Args:
            name: empty: the present time, with a number behind it when that name is taken.
            start: as `OurTime.parse` reads it.

        Raises:
            BadKey: the name is no safe name of 3 characters or more.
            ParseError, MalformedTime
        """
        began = OurTime.parse(start)
        session = Session(name or self._free_name(), self, Params.parse(params), began, interactive=interactive)
        session.save()
        self._sessions().set(_LATEST, session.name)
        return session

    def session_get(self, name: str = "") -> "Session":
        """Load a session; an empty name is the latest.

        Raises:
            MissingKey: there is none.
        """
        return Session.loaded(self, name or self._sessions().get(_LATEST))

    def session_latest(self) -> "Session":
        """Load the session made last; makes one when there is none."""
        return self.session_get() if self._sessions().exists(_LATEST) else self.session_new()

    def db_config_get(self) -> Store:
        """Give the store all sessions of the context share."""
        return self.store("config")

    def store(self, name: str) -> Store:
        """Give one of the context's stores.

        Raises:
            StoreError: it is kept elsewhere.
        """
        if self.stores is None:
            raise StoreError(f"the context {self.name!r} has no stores")
        return self.stores.db_get_create(name)

    def _sessions(self) -> Store:
        return self.store(_SESSIONS)

    def _free_name(self) -> str:
        return named_by_time(OurTime.now(), lambda name: self._sessions().exists(f"session {name}"))


@dataclass(slots=True)
class Session:
    """One run of playbooks: its parameters, times, environment and playbook. An `end` of None is open."""

    name: str
    context: Context
    params: Params = field(default_factory=Params)
    start: OurTime = field(default_factory=OurTime.now)
    end: OurTime | None = None
    interactive: bool = True
    plbook: PlayBook = field(default_factory=PlayBook)
    env: dict[str, str] = field(default_factory=dict)
    coderoot: str = ""

    def __post_init__(self) -> None:
        if self.context.stores is not None:
            _check_name(self.name)

    @classmethod
    def loaded(cls, context: Context, name: str) -> "Session":
        """Load a saved session; its environment and playbook are not saved.

        Raises:
            MissingKey
        """
        saved: dict[str, Any] = json.loads(context._sessions().get(f"session {name}"))
        end = None if saved["end"] is None else OurTime(saved["end"])
        params = Params.parse(saved["params"])
        return cls(saved["name"], context, params, OurTime(saved["start"]), end, saved["interactive"])

    def save(self) -> None:
        """Keep the session for `session_get`, without its environment, which may hold secrets."""
        saved = {
            "name": self.name,
            "start": self.start.unix,
            "end": None if self.end is None else self.end.unix,
            "interactive": self.interactive,
            "params": self.params.heroscript(),
        }
        self.context._sessions().set(f"session {self.name}", json.dumps(saved))

    @property
    def guid(self) -> str:
        """`context id:context name:session name`."""
        return f"{self.context.guid}:{self.name}"

    def env_set(self, key: str, value: str) -> None:
        """Set a word of the environment."""
        self.env[key] = value

    def env_set_once(self, key: str, value: str) -> None:
        """Set a word of the environment.

        Raises:
            StoreError: it is set already.
        """
        if key in self.env:
            raise StoreError(f"{key!r} is set already")
        self.env[key] = value

    def env_get(self, key: str) -> str:
        """Give a word of the environment.

        Raises:
            MissingKey
        """
        if key not in self.env:
            raise MissingKey(f"{key!r} is not set")
        return self.env[key]

    def env_delete(self, key: str) -> None:
        """Forget a word of the environment, if it is set."""
        self.env.pop(key, None)

    def env_substitute(self) -> None:
        """Put the environment in the place of `{KEY}` in the parameters of all actions that are not done."""
        self.plbook.replace(self.env)

    def playbook_priorities_add(self, priorities: Mapping[int, str]) -> None:
        """Register priorities for the playbook; see `PlayBook.priorities_add`."""
        self.plbook.priorities_add(priorities)

    def db_get(self) -> Store:
        """Give the store of this session alone."""
        return self.context.store(f"session_{self.name}")

    def heroscript(self, show_done: bool = False) -> str:
        """Write the session and its playbook, so that playing the text makes both again; not its environment."""
        actions = self.plbook.find(include_done=show_done)
        return "".join([*(f"{line}\n" for line in self.head()), "\n".join(action.heroscript() for action in actions)])

    def head(self, about: Mapping[str, str] | None = None, more: Iterable[str] = ()) -> list[str]:
        """Give the actions that make the session again, up to its playbook.

        Args:
            about: further parameters of its definition.
            more: actions to be played before the playbook is put in order.
        """
        context = self.context
        define = {"name": context.name, **_settings(context.interactive, context.coderoot)}
        times = {"start": _seconds(self.start), **({} if self.end is None else {"end": _seconds(self.end)})}
        become = {"name": self.name, "context": context.name, **times, **_settings(self.interactive, self.coderoot)}
        lines = [
            action_line("core.context_define", define),
            action_line("core.session_define", {**become, **(about or {})}),
            _params("core.params_context_set", context.params),
            _params("core.params_session_set", self.params),
            *more,
            # Last, and all at once: from then on they order what is left, and nothing above may be left then.
            _priorities({number: ",".join(filters) for number, filters in self.plbook.priorities.items()}),
        ]
        return [line for line in lines if line]

    def __str__(self) -> str:
        end = f" end:'{self.end}'" if self.end else ""
        return f"session:{self.guid} start:'{self.start}'{end}"


def named_by_time(now: OurTime, is_taken: Callable[[str], bool]) -> str:
    """Give the name of a session by the time it is made, with a number behind it when that is taken."""
    name, number = now.key, 1
    while is_taken(name):
        number += 1
        name = f"{now.key}_{number}"
    return name


def action_line(name: str, values: Mapping[str, str]) -> str:
    """Write one action with these parameters."""
    return action_text(f"!!{name}", "", [(key, value, "") for key, value in values.items()], (), ())


def comes_back(values: Mapping[str, Any]) -> bool:
    """Tell whether values are the same when they are written as parameters, read and played."""
    if "id" in values or not all(isinstance(text, str) and not _REFERENCE.search(text) for text in values.values()):
        return False
    try:
        return Params.parse(params_of(values).heroscript()).get_map() == values
    except PlayError:
        return False  # a name that no parameter can have


def params_of(values: Mapping[str, str]) -> Params:
    """Give values as parameters."""
    params = Params()
    for key, value in values.items():
        params.set(key, value)
    return params


def as_json(values: Any) -> str:
    """Write an object so that neither a word nor a line break is put into it when it is played."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return _REFERENCE.sub(r"\\u007b", text.replace("\\\\", "\\u005c").replace("<", "\\u003c"))


def _settings(interactive: bool, coderoot: str) -> dict[str, str]:
    return {"interactive": str(interactive).lower(), **({"coderoot": coderoot} if coderoot else {})}


def _seconds(time: OurTime) -> str:
    return time.moment.isoformat(" ")[:19]


def _params(name: str, params: Params) -> str:
    if not len(params) and not params.args:
        return ""
    return action_text(f"!!{name}", "", params.items(), params.args, params.arg_comments)


def _priorities(found: Mapping[int, str]) -> str:
    if len(found) > 1:
        texts = {str(number): text for number, text in sorted(found.items())}
        return action_line("session.priorities_add", {"json": json.dumps(texts, separators=(",", ":"))})
    return "".join(action_line("session.priorities_add", {"nr": str(nr), "filter": text}) for nr, text in found.items())


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadKey(f"{name!r} is no name: 3 to 100 of A-Z a-z 0-9 _ . - and no '..'")
