"""What is answered besides records and listings: one model a shape, described by rpc.discover."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from rpcserver.schemas.job import JobRecord, JobState
from rpcserver.schemas.session import NextCall, SessionRecord, Shape


class SessionId(Shape):
    """The session made or destroyed."""

    session_id: str


class SessionPage(Shape):
    """A page of sessions; `next_cursor` is null at the end."""

    items: list[SessionRecord]
    next_cursor: str | None


class JobPage(Shape):
    """A page of jobs, the newest first; `next_cursor` is null at the end."""

    items: list[JobRecord]
    next_cursor: str | None


class JobFunction(Shape):
    """A job function: what it does, takes, answers and may touch.

    `input` and `output` are JSON Schemas; an `internal` one is not for `job.run`.
    """

    name: str
    doc: str
    lane: Literal["memory", "local", "long"]
    input: dict[str, Any]
    output: dict[str, Any]
    core_calls: list[str]
    timeout_s: float
    retries: int
    backoff_s: float
    on_crash: Literal["fail", "retry"]
    limit: int | None
    internal: bool


class JobFunctions(Shape):
    """Every job function there is."""

    items: list[JobFunction]


class JobId(Shape):
    """A job that was begun."""

    job_id: str


class JobRun(Shape):
    """A job that was run, or still runs: then `next` waits for its end; `result` when it has succeeded."""

    job_id: str
    state: JobState
    result: Any = None
    next: NextCall | None = None


class JobLine(Shape):
    """A line of a job's log, at UTC milliseconds `at`."""

    number: int
    at: int
    text: str


class JobLog(Shape):
    """Lines of a job's log; `next` is the `after` of the call that goes on."""

    lines: list[JobLine]
    next: int
    state: JobState


class FunctionStatistics(Shape):
    """How often a job function ran and failed since the start, and the middle and the slow end of its durations."""

    function: str
    runs: int
    errors: int
    p50_ms: float
    p99_ms: float


class JobStatistics(Shape):
    """Every job function that ran since the server started."""

    items: list[FunctionStatistics]


class Schedule(Shape):
    """When a job function is run: by the line `cron` in `timezone`, every `every_s`, or `at` UTC milliseconds.

    `brought_by`: the credentials it needs.
    """

    schedule_id: str
    function: str
    data: dict[str, Any]
    session_id: str | None
    brought_by: list[str]
    cron: str | None = None
    timezone: str | None = None
    every_s: float | None = None
    at: int | None = None
    catch_up: bool
    next_at: int | None
    last_at: int | None
    last_job_id: str | None
    missed: int
    created_at: int


class SchedulePage(Shape):
    """A page of schedules, the oldest first; `next_cursor` is null at the end."""

    items: list[Schedule]
    next_cursor: str | None


class Question(Shape):
    """A question, as whoever may answer sees it; `schema` is the JSON Schema of an answer."""

    ask_id: str
    job_id: str
    session_id: str | None
    text: str
    schema_: dict[str, Any] | None = Field(alias="schema")
    choices: list[Any] | None
    default: Any
    secret: bool
    expires_at: int | None
    created_at: int


class AskPage(Shape):
    """A page of open questions, the oldest first; `next_cursor` is null at the end."""

    items: list[Question]
    next_cursor: str | None


class Subscribed(Shape):
    """An open subscription and where in the log it begins; `recovered` only when `since` was given."""

    subscription: str
    epoch: str
    seq: int
    recovered: bool | None = None


class Identity(Shape):
    """The calling user and how far the credential reaches; `expires_at` in UTC milliseconds, null: until revoked."""

    user_id: str
    name: str
    home_set: str
    credential_id: str | None
    label: str
    holder: str | None
    scopes: list[str]
    expires_at: int | None


class LeftOut(Shape):
    """What took too long and is not asked for a while: a plugin and its hook, or a remote by its id."""

    what: str
    tried_again_in_s: float


class Used(Shape):
    """How much the caller keeps of something, and the most that may be kept."""

    used: int
    most: int


class ServerInfo(Shape):
    """The server as `server.info` tells it.

    `usage` is the caller's, by the name of the setting; `left_out` for the caller or for everybody.
    """

    version: str
    protocol: str
    uptime_s: float
    limits: dict[str, float]
    usage: dict[str, Used]
    plugins: list[str]
    left_out: list[LeftOut]
    methods: list[str]


class Imported(Shape):
    """What came of an import; `problems` holds the first (place, reason) pairs."""

    set_id: str
    sets: int
    tokens: int
    problems: list[list[str]]
    problem_count: int


class OpenRpc(Shape):
    """An OpenRPC 1.4 document."""

    model_config = ConfigDict(defer_build=True, extra="allow")

    openrpc: str = Field(pattern=r"^1\.4\.\d+$")
    info: dict[str, Any]
    methods: list[dict[str, Any]]
    components: dict[str, Any]


class Ticket(Shape):
    """A one-shot ticket, and until when it opens (UTC milliseconds)."""

    ticket: str
    expires_at: int


class OperatorTicket(Ticket):
    """A ticket with the credential its connection gets, to be revoked by."""

    credential_id: str


class NewLimitedCredential(Shape):
    """A credential that was made; its text is shown this once."""

    credential_id: str
    credential: str


class CredentialRecord(Shape):
    """A credential as `credentials.list` tells it, with what was used of it; times are UTC milliseconds."""

    credential_id: str
    user: str
    label: str
    scopes: list[str]
    expires_at: int | None
    created_at: int
    holder: str | None
    is_logged: bool
    is_renewable: bool
    max_calls: int | None
    calls_per_interval: int | None
    interval_s: int | None
    calls_made: int
    calls_refused: int


class CredentialPage(Shape):
    """A page of credentials, the oldest first."""

    items: list[CredentialRecord]
    next_cursor: str | None


class LoggedCall(Shape):
    """A call made with a limited credential; `outcome` is `ok`, the error's kind, or null while it runs."""

    id: str
    method: str
    outcome: str | None
    at: int


class LogPage(Shape):
    """A page of a credential's calls, the newest first."""

    items: list[LoggedCall]
    next_cursor: str | None


class PastEvent(Shape):
    """An event as `events.history` tells it."""

    topic: str
    seq: int
    epoch: str
    at: int
    data: dict[str, Any]


class EventPage(Shape):
    """A page of events, the newest first; it may hold fewer than asked for and still go on."""

    items: list[PastEvent]
    next_cursor: str | None


class Attached(Shape):
    """A connection that has used a session, with what it says it is."""

    connection: str
    client: str
    version: str
    type: str
    label: str
    holder: str | None
    since: int
    is_me: bool


class Presence(Shape):
    """Who is attached to a session."""

    session_id: str
    items: list[Attached]
