"""What is answered about playbooks, contexts and stores: one model a shape, described by rpc.discover."""

from typing import Any, Literal

from rpcserver.models import NextCall, Shape

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
