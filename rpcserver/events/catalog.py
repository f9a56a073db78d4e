"""Every notification the server sends, with the model of its params. Described by rpc.discover under x-notifications.

`$/` notifications belong to the connection; the others are events of a subscription and come in one envelope.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rpcserver.schemas.playbook import PlaybookChange, PlaybookEvent
from rpcserver.schemas.results import Question
from rpcserver.schemas.session import Shape


class ServerName(Shape):
    """Which program answers."""

    name: str
    version: str


class Hello(Shape):
    """The first message on a connection: what holds here."""

    protocol: str
    server: ServerName
    limits: dict[str, float]
    heartbeat_s: float
    auth_required: bool
    epoch: str


class Closing(Shape):
    """The server is about to close the connection, and when to come back."""

    code: int
    reason: str
    reconnect: bool
    retry_after_ms: int


class Expiring(Shape):
    """The connection's credential ends at UTC milliseconds `expires_at`; then the connection is closed with 4401."""

    expires_at: int
    in_s: float


class CancelRequest(Shape):
    """The server no longer wants the answer to its request of that id."""

    id: str


class Gap(Shape):
    """Events of a subscription that were left out: those from the number `from` up to `to`."""

    model_config = ConfigDict(defer_build=True, populate_by_name=True)

    subscription: str
    from_: int = Field(alias="from")
    to: int


class MaintenanceEvent(Shape):
    """The operator has stopped or resumed the service."""

    on: bool
    message: str
    retry_after_ms: int


class ProgressReport(Shape):
    """How far a call is: `done` of `total`, which is null where the end is not known."""

    kind: Literal["report"]
    done: float
    total: float | None
    message: str
    percentage: float | None = None


class Progress(Shape):
    """How far the call with that `_meta.progress_token` is; the last one comes before the response."""

    token: str | int
    value: ProgressReport


class QuestionEvent(Shape):
    """A question to a person: answer it with ask.answer."""

    activity_id: str
    ask_id: str
    remote_id: str
    text: str
    value: Any
    token: str
    caller: str


class AnsweredEvent(Shape):
    """A question is over; an answer is read from the attribute, or by pressing the command without a value."""

    activity_id: str
    token_id: str | None
    state: Literal["succeeded", "declined", "expired", "cancelled"]


class SessionEvent(Shape):
    """Something happened to a session."""

    session_id: str


class DestroyedEvent(SessionEvent):
    """A session is gone: its user destroyed it, or, by `reason`, its end has come."""

    reason: Literal["ended"] | None = None


class PlaceEvent(SessionEvent):
    """A session entered or left a set."""

    set_id: str


class RelocatedEvent(PlaceEvent):
    """A session was moved because its working set is gone or closed to it."""

    relocated_from: str


class SeenToken(Shape):
    """A user's token, as the others in the set see it."""

    id: str
    name: str
    type: str


class ContentsEvent(Shape):
    """A user entered or left a set the subscriber stands in."""

    set_id: str
    change: Literal["entered", "left"]
    token: SeenToken


class WorldEvent(Shape):
    """What happened in the world; never a value.

    `set_id` is the set that was made or deleted, or in which it happened; for a value, the one it holds in alone.
    """

    event: Literal[
        "set_created",
        "set_destroyed",
        "token_added",
        "token_removed",
        "child_added",
        "link_created",
        "link_destroyed",
        "token_created",
        "token_destroyed",
        "value_changed",
    ]
    set_id: str | None = None
    token_id: str
    attribute: str | None = None


class WorkEvent(Shape):
    """What a job or schedule of the user is about; `function` is empty where a question is told."""

    job_id: str | None
    function: str
    session_id: str | None


class JobEvent(WorkEvent):
    """Something happened to a job or schedule of the user; `brought_by`: the ids of the credentials it needs."""

    brought_by: list[str]


class StartedEvent(JobEvent):
    """A job began to run, for the how manieth time."""

    attempt: int


class JobProgressEvent(JobEvent):
    """How far a job is; `fraction` of 1 where the end is known."""

    done: float
    total: float | None
    fraction: float | None
    message: str


class FailedEvent(JobEvent):
    """A job ended without success; `error` as in the job's record."""

    error: dict[str, Any]


class AskEvent(Question):
    """A question that was opened."""

    function: str


class ResolvedEvent(WorkEvent):
    """A question needs no answer any more."""

    ask_id: str
    state: str


class MissedEvent(JobEvent):
    """So many runs of a schedule fell due and were not run, between two moments in UTC milliseconds."""

    schedule_id: str
    missed: int
    from_: int = Field(alias="from")
    until: int


class WithdrawnEvent(JobEvent):
    """A schedule starts nothing more, as a credential that brought it has ended."""

    schedule_id: str
    reason: str


class CredentialEvent(Shape):
    """A credential in the user's name has ended, and with it all that it brought."""

    credential_id: str
    label: str
    reason: Literal["revoked", "expired"]


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification: its name, when it comes, and its params; for an event, the `data` of its params.

    `reads`: calls that tell the same. A narrow credential hears of an event when its scopes include one of them, or
    the event's name; where there are none, every credential does.
    """

    name: str
    doc: str
    params: type[BaseModel]
    reads: tuple[str, ...] = ()

    @property
    def is_event(self) -> bool:
        """Tell whether it comes in the envelope of a subscription."""
        return not self.name.startswith("$/")


_SESSIONS = ("session.get", "sessions.list")
_JOBS = ("job.get", "job.wait", "jobs.list")
_ASKS = ("asks.list", "ask.answer")
_PLAYS = ("session.playbook_find", "session.play")
NOTIFICATIONS = (
    Notification("$/hello", "The first message: limits, heartbeat, and whether a credential is still due.", Hello),
    Notification("$/closing", "Before the server closes the connection.", Closing),
    Notification("$/progress", "While a call runs that gave a `_meta.progress_token`.", Progress),
    Notification("$/cancelRequest", "A request of the server needs no answer any more.", CancelRequest),
    Notification("$/authExpiring", "A minute before the connection's credential ends.", Expiring),
    Notification("$/gap", "Events were left out for a slow client; what follows goes on after `to`.", Gap),
    Notification("session.created", "A session of the user was made.", SessionEvent, _SESSIONS),
    Notification("session.changed", "Name, options or params of a session were changed.", SessionEvent, _SESSIONS),
    Notification("session.destroyed", "A session of the user is gone.", DestroyedEvent, _SESSIONS),
    Notification("session.entered", "A session of the user entered a set.", PlaceEvent, _SESSIONS),
    Notification("session.left", "A session of the user left a set.", PlaceEvent, _SESSIONS),
    Notification("session.relocated", "A session was moved because its set is gone.", RelocatedEvent, _SESSIONS),
    Notification(
        "session.contents_changed", "Somebody came into or left a set one stands in.", ContentsEvent, ("session.ls",)
    ),
    Notification(
        "session.pallet_changed",
        "Where commands stand in a session's pallet was found out.",
        SessionEvent,
        ("session.ls",),
    ),
    Notification(
        "core.event",
        "Something happened where one stands, to what one may read there.",
        WorldEvent,
        ("session.ls", "core.set.read"),
    ),
    Notification("remote.asked", "A manual remote asks the user something.", QuestionEvent, _ASKS),
    Notification(
        "remote.answered",
        "A question of the user's to a person is answered, declined, or expired.",
        AnsweredEvent,
        ("core.attribute.read", "session.action"),
    ),
    Notification("job.started", "A job of the user began to run; short jobs only tell their end.", StartedEvent, _JOBS),
    Notification("job.progress", "How far a job of the user is, at most ten times a second.", JobProgressEvent, _JOBS),
    Notification("job.completed", "A job of the user succeeded.", JobEvent, _JOBS),
    Notification("job.failed", "A job of the user failed, or was lost by a crash.", FailedEvent, _JOBS),
    Notification("job.cancelled", "A job of the user was cancelled.", FailedEvent, _JOBS),
    Notification("ask.opened", "A job or a plugin asks the user.", AskEvent, _ASKS),
    Notification("ask.resolved", "A question was answered, declined or withdrawn.", ResolvedEvent, _ASKS),
    Notification(
        "playbook.changed", "Actions were added to the playbook of a session of the user.", PlaybookChange, _PLAYS
    ),
    Notification(
        "playbook.action", "An action of a session's playbook began, was done, or failed.", PlaybookEvent, _PLAYS
    ),
    Notification("server.maintenance", "The operator has stopped or resumed the service.", MaintenanceEvent),
    Notification(
        "schedule.missed",
        "Runs of a schedule were missed, as while the server was down.",
        MissedEvent,
        ("schedules.list",),
    ),
    Notification(
        "schedule.withdrawn",
        "A schedule of the user starts nothing more: a credential that brought it has ended.",
        WithdrawnEvent,
        ("schedules.list",),
    ),
    Notification(
        "credential.ended",
        "A credential in the user's name was revoked or has expired; what it brought is taken back.",
        CredentialEvent,
        ("credentials.list",),
    ),
)
