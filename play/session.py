"""`Context` and `Session`: what playbooks are executed in, kept in a key-value store.

Source: the seed `play.session`; heroscript specification, section 10.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from play.errors import BadKey, MissingKey, StoreError
from play.kvs import Collection, Store
from play.layout import action_text
from play.ourtime import OurTime
from play.params import Params
from play.playbook import PlayBook

_NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.-]{3,100}")
_SESSIONS = "sessions"
_LATEST = "latest session"


@dataclass(slots=True)
class Context:
    """What sessions share: a name, parameters, and the store of configurations."""

    stores: Collection
    name: str = "default"
    id: int = 0
    params: Params = field(default_factory=Params)

    def __post_init__(self) -> None:
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
        return self.stores.db_get_create("config")

    def _sessions(self) -> Store:
        return self.stores.db_get_create(_SESSIONS)

    def _free_name(self) -> str:
        name = key = OurTime.now().key
        number = 1
        while self._sessions().exists(f"session {name}"):
            number += 1
            name = f"{key}_{number}"
        return name


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

    def __post_init__(self) -> None:
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
        return self.context.stores.db_get_create(f"session_{self.name}")

    def heroscript(self) -> str:
        """Write the session, its parameters and the actions of its playbook that are not done."""
        times = [("start", str(self.start), "")] + ([("end", str(self.end), "")] if self.end else [])
        parts = [action_text("!!core.session_define", "", [("name", self.name, ""), *times], (), ())]
        if len(self.params) or self.params.args:
            params = self.params
            parts.append(action_text("!!core.params_session_set", "", params.items(), params.args, params.arg_comments))
        return "\n".join([*parts, self.plbook.heroscript()])

    def __str__(self) -> str:
        end = f" end:'{self.end}'" if self.end else ""
        return f"session:{self.guid} start:'{self.start}'{end}"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadKey(f"{name!r} is no name: 3 to 100 of A-Z a-z 0-9 _ . - and no '..'")
