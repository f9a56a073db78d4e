"""What goes over the wire about playbooks, contexts and stores. Source: seeds/play-session.md."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from rpcserver.models import ContextName, Cursor, Id, Limit, Params, SessionName, SessionParams, Text

Path = Annotated[str, Field(min_length=1, max_length=4096)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
Script = Annotated[str, Field(max_length=16 * 1024 * 1024)]
Filter = Annotated[str, Field(max_length=1000)]
Key = Annotated[str, Field(min_length=1, max_length=1000)]
Prefix = Annotated[str, Field(max_length=1000)]
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
    """session.create: the seed's PlayArgs, and where to start. It is closed at its `end`, absolute or as `+8h`."""

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
    prio: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 50
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
