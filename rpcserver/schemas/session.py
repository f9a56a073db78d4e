"""What goes over the wire: the params of every method and the shapes of what is answered.

The same models check the call and describe it. Their names are part of what is promised. Source: seeds.md S1 to S15.
"""

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Limit = Annotated[int, Field(ge=1, le=200, description="How many items at most.")]
Cursor = Annotated[str | None, Field(max_length=4096, description="`next_cursor` of the page before.")]

# Control signs, signs that change the direction of what follows, halves of a sign, ends of lines and paragraphs.
_NOT_IN_A_LINE = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"  # of Persian, of Indian scripts, of emoji


def without_nul(text: str) -> str:
    """Refuse the one character that no name holds and that SQLite would end a text at."""
    if "\x00" in text:
        raise ValueError("it holds a NUL character")
    return text


def one_line(text: str) -> str:
    """Refuse a name that is blank, or holds what would break or hide a part of the line it is shown in."""
    if not text.strip():
        raise ValueError("it is blank")
    odd = next((sign for sign in text if unicodedata.category(sign) in _NOT_IN_A_LINE and sign not in _JOINERS), None)
    if odd is not None:
        raise ValueError(f"it holds the sign U+{ord(odd):04X}, which is none for a name")
    return text


def session_name(text: str) -> str:
    """Refuse what is no name of one line, and slashes: a name is not a path."""
    if "/" in text or "\\" in text:
        raise ValueError("it holds a slash: a session's name is not a path")
    return one_line(text)


Id = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(without_nul)]
Text = Annotated[str, Field(max_length=1000), AfterValidator(without_nul)]
SessionName = Annotated[str, Field(min_length=3, max_length=120), AfterValidator(session_name)]
Line = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(one_line)]
ContextName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{2,119}$")]
Kind = Literal["token", "child", "link", "user", "command"]
Order = Literal["name", "-name", "added", "-added"]


class Shape(BaseModel):
    """What goes over the wire as an object. Its validator is made when it is first used: there are hundreds."""

    model_config = ConfigDict(defer_build=True)


class Params(BaseModel):
    """Params of a method: strict types, no unknown names."""

    model_config = ConfigDict(defer_build=True, extra="forbid", strict=True, frozen=True)


class NoParams(Params):
    """A method without params."""


class SessionParams(Params):
    """A method about one session; the caller's default session when none is named."""

    session_id: Id | None = None


class DestroyParams(Params):
    """session.destroy."""

    session_id: Id


class GetParams(SessionParams):
    """session.get."""

    include: list[Literal["data", "history", "playbook"]] = Field(
        default_factory=list
    )  # a list would be deep-copied each time


class ListSessionsParams(Params):
    """sessions.list."""

    context_name: ContextName | None = None
    state: Literal["creating", "active", "destroying", "failed"] | None = None
    limit: Limit = 50
    cursor: Cursor = None


class LsParams(SessionParams):
    """session.ls: a page of the working set, or of another set without going there."""

    set_id: Id | None = None
    token_id: Id | None = None
    kind: Kind | None = None
    filter: Text | None = None
    order: Order = "name"
    human: bool | None = None
    sections: list[Literal["contents", "commands"]] = ["contents", "commands"]
    limit: Limit = 50
    cursor: Cursor = None


class CdParams(SessionParams):
    """session.cd: exactly one of `set_id`, `to` and `path`."""

    set_id: Id | None = None
    to: Literal["back", "forward", "up", "home"] | None = None
    path: Text | None = None
    if_revision: int | None = None
    limit: Limit = 50

    @model_validator(mode="after")
    def _one_target(self) -> "CdParams":
        if sum(value is not None for value in (self.set_id, self.to, self.path)) != 1:
            raise ValueError("give exactly one of set_id, to (back, forward, up, home) and path")
        return self


class ActionParams(SessionParams):
    """session.action: run a command of the pallet; `detach` does not wait for the long jobs it starts."""

    token_id: Id
    value: Any = None
    args: dict[str, Any] = {}
    detach: bool = False
    if_match: int | None = None


class Options(Params):
    """What a session keeps for its listings."""

    human: bool | None = None
    filter: Text | None = None


class UpdateParams(Params):
    """session.update. `start` and `end` are absolute or relative times, as `+8h`; an empty one is cleared."""

    session_id: Id
    name: SessionName | None = None
    context_name: ContextName | None = None
    interactive: bool | None = None
    options: Options | None = None
    params: dict[str, Any] | str | None = None
    coderoot: Text | None = None
    start: Text | None = None
    end: Text | None = None
    if_revision: int | None = None


class IdentifyParams(Params):
    """server.identify: who connects, for logs and presence."""

    client: Line
    version: Annotated[str, Field(max_length=50)] = ""
    type: Literal["web", "cli", "agent", "service", "other"] = "other"


class SessionRecord(Shape):
    """A session as `session.get`, `session.update` and `sessions.list` tell it; times are UTC milliseconds."""

    session_id: str
    name: str
    state: str
    context_name: str
    is_default: bool
    core_user_id: str
    layer_user_id: str
    working_set: str | None
    command_pallet: str | None
    session_data: str | None
    interactive: bool
    params: Any
    start: int
    end: int | None
    revision: int
    history_depth: int
    options: dict[str, Any]
    relocated_from: str | None
    created_at: int
    last_used_at: int
    history: list[str] | None = None
    data: list[Any] | None = None
    playbook: dict[str, Any] | None = None


class Owner(Shape):
    """Who made a set."""

    id: str
    name: str


class ParentSet(Shape):
    """The set above, as information."""

    id: str
    set_name: str


class CurrentSet(Shape):
    """The set a listing shows."""

    id: str
    set_name: str
    set_author: Owner
    parent: ParentSet | None
    can_write: bool


class NextCall(Shape):
    """A call that leads on."""

    method: str
    params: dict[str, Any]
    rel: str | None = None


class SetStatus(Shape):
    """The set that a listed token defines, and how it stands to the one listed."""

    id: str
    relation: str


class ListedToken(Shape):
    """A token of a listing. `answers`: the last to this reader of what a script, remote or person answers for."""

    id: str
    name: str
    type: str
    description: Any = None
    image: Any = None
    present: bool | None = None
    set: SetStatus | None = None
    attributes: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    links: list[NextCall] = []


class Contents(Shape):
    """A page of tokens; `next` is the call for the next page."""

    tokens: list[ListedToken]
    next: NextCall | None
    next_cursor: str | None


class ListedCommand(Shape):
    """A command of the pallet."""

    id: str
    name: str
    description: str
    source: str
    accepts: str | None
    sort: float | None
    call: NextCall


class Relocation(Shape):
    """Why a session stands somewhere else than it was left."""

    set_id: str
    reason: str


class Listing(Shape):
    """What `session.ls` and `session.cd` answer; without commands there is no pallet version either."""

    session_id: str
    revision: int
    pallet_version: int | None = None
    current_set: CurrentSet
    contents: Contents | None = None
    commands: list[ListedCommand] | None = None
    relocated_from: Relocation | None = None


class ActionResult(Shape):
    """What `session.action` answers.

    With `state` it was answered before the action has ended, as its `job` asks a person: the action goes on by itself.
    """

    handled_by: str | None
    response: dict[str, Any]
    job: str | None = None
    state: Literal["waiting_input", "running"] | None = None
    next: NextCall | None = None
    working_set: str | None = None
    listing: Listing | None = None
    pallet_version: int | None
    commands: list[ListedCommand] | None = None
