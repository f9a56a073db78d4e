"""What goes over the wire about playbooks, contexts and stores. Source: seeds.md P3 to P17."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from rpcserver.schemas.session import (
    ContextName,
    Cursor,
    Id,
    Limit,
    NextCall,
    Params,
    SessionName,
    SessionParams,
    Shape,
    Text,
)

Path = Annotated[str, Field(min_length=1, max_length=4096)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
Script = Annotated[str, Field(max_length=16 * 1024 * 1024)]
Filter = Annotated[str, Field(max_length=1000)]
Key = Annotated[str, Field(min_length=1, max_length=1000)]
Prefix = Annotated[str, Field(max_length=1000)]
PRIO = 99  # of actions that are given none (seeds.md P12)
_WHOLE = re.compile(r"-?\d{1,8}", re.ASCII)
Words = dict[Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=100_000)]]


def _numbered(priorities: dict[str, str]) -> dict[str, str]:
    for number in priorities:
        if not _WHOLE.fullmatch(number):
            raise ValueError(f"{number[:20]!r} is no whole number")
    return priorities


def _one_source(text: str | None, path: str | None, url: str | None, least: int) -> None:
    if not least <= sum(value is not None for value in (text, path, url)) <= 1:
        raise ValueError("give one of text, path and url")


class CreateParams(Params):
    """session.create: what a new session may be given, and where to start. It is closed at its `end`, also as `+8h`."""

    name: SessionName | None = None
    context_name: ContextName = "default"
    set_id: Id | None = None
    interactive: bool = True
    params: dict[str, Any] | Script | None = None
    human: bool = False
    filter: Text | None = None
    coderoot: Path | None = None
    playbook_url: Url | None = None
    playbook_path: Path | None = None
    playbook_text: Script | None = None
    start: Text | None = None
    end: Text | None = None

    @model_validator(mode="after")
    def _one_playbook(self) -> "CreateParams":
        _one_source(self.playbook_text, self.playbook_path, self.playbook_url, 0)
        return self


class SourceParams(SessionParams):
    """Where a playbook comes from."""

    text: Script | None = None
    path: Path | None = None
    url: Url | None = None
    prio: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = PRIO
    git_branch: Annotated[str | None, Field(max_length=200)] = None
    git_pull: bool = False
    git_reset: bool = False
    replace: Words | None = None

    @property
    def has_source(self) -> bool:
        """Tell whether there is something to add."""
        return any(value is not None for value in (self.text, self.path, self.url))


class AddParams(SourceParams):
    """session.playbook_add: exactly one of `text`, `path` and `url`."""

    @model_validator(mode="after")
    def _exactly_one(self) -> "AddParams":
        _one_source(self.text, self.path, self.url, 1)
        return self


class PlayParams(SourceParams):
    """session.play: what is given is added first; `filter` plays only the actions it matches."""

    filter: Filter = ""
    dry_run: bool = False
    detach: bool = False

    @model_validator(mode="after")
    def _at_most_one(self) -> "PlayParams":
        _one_source(self.text, self.path, self.url, 0)
        return self


class PrioritiesParams(SessionParams):
    """session.playbook_priorities_add: comma lists of filters by number, as {"10": "gittools.*"}."""

    priorities: Annotated[dict[str, Filter], Field(max_length=1000), AfterValidator(_numbered)]


class FindParams(SessionParams):
    """session.playbook_find."""

    filter: Filter = ""
    include_done: bool = False
    limit: Limit = 50
    cursor: Cursor = None


class HeroscriptParams(SessionParams):
    """session.heroscript."""

    show_done: bool = False


class StoreParams(SessionParams):
    """session.db.destroy."""


class KeyParams(SessionParams):
    """session.db.get, delete, exists."""

    key: Key


class SetParams(SessionParams):
    """session.db.set."""

    key: Key
    value: Annotated[str, Field(min_length=1)]


class KeysParams(SessionParams):
    """session.db.keys."""

    prefix: Prefix = ""
    limit: Limit = 50
    cursor: Cursor = None


class ContextParams(Params):
    """context.get."""

    context_name: ContextName = "default"


class ContextStoreParams(ContextParams):
    """A context's store; with `secret` its secrets, which scripts refer to as `{secret:KEY}` and nobody reads."""

    secret: bool = False


class ContextKeyParams(ContextStoreParams):
    """context.db.get, delete, exists."""

    key: Key


class ContextSetParams(ContextKeyParams):
    """context.db.set."""

    value: Annotated[str, Field(min_length=1)]


class ContextKeysParams(ContextStoreParams):
    """context.db.keys."""

    prefix: Prefix = ""
    limit: Limit = 50
    cursor: Cursor = None


class UpdateContextParams(ContextParams):
    """context.update."""

    coderoot: Path | None = None
    params: dict[str, Any] | Script | None = None
    interactive: bool | None = None


class LendParams(Params):
    """operator.lend."""

    name: Text | None = None


class GiveBackParams(Params):
    """operator.give_back."""

    credential: Annotated[str, Field(min_length=1, max_length=1000)]


StepState = Literal["waiting", "running", "done", "failed", "withdrawn", "planned"]


class PlayedAction(Shape):
    """An action as a play or a plan tells it; `handled_by` names the plugin, `ms` says how long it took.

    With `is_cut` its result is too long to be told here, and null: session.playbook_find tells it.
    """

    number: int
    action: str
    file: str
    line: int
    state: StepState
    handled_by: str | None
    result: Any
    error: dict[str, Any] | None
    ms: int | None
    is_cut: bool = False


class PlaybookAction(PlayedAction):
    """An action of a session's playbook, with what was written."""

    type: Literal["dal", "sal", "macro", "wal"]
    params: dict[str, str]
    args: list[str]
    priority: int


class Added(Shape):
    """How many actions were added, and the first of them."""

    added: int
    actions: list[PlaybookAction]


class PlaybookPage(Shape):
    """A page of a playbook's actions; `next_cursor` is null at the end."""

    items: list[PlaybookAction]
    next_cursor: str | None


class Played(Shape):
    """How a play ended; with `state`, that it goes on: `next` waits for its end. `job_id` is null for a plan."""

    job_id: str | None
    state: str | None = None
    next: NextCall | None = None
    done: int | None = None
    failed: int | None = None
    left: int | None = None
    results: list[PlayedAction] | None = None


class ContextRecord(Shape):
    """What sessions share; times are UTC milliseconds."""

    id: int
    name: str
    coderoot: str | None
    params: dict[str, Any]
    interactive: bool
    created_at: int


class ContextPage(Shape):
    """A page of contexts; `next_cursor` is null at the end."""

    items: list[ContextRecord]
    next_cursor: str | None


class KeyPage(Shape):
    """A page of keys; `next_cursor` is null at the end."""

    items: list[str]
    next_cursor: str | None


class PlaybookEvent(PlayedAction):
    """An action of a playbook began or ended."""

    session_id: str
    job_id: str


class PlaybookChange(Shape):
    """Actions were added to a session's playbook."""

    session_id: str
    added: int
