"""What goes over the wire about jobs, schedules and questions: the params, and the record of a job."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from core.durations import Duration, none_or_some
from rpcserver.schemas.session import Cursor, Id, Limit, Params, SessionParams, Shape, Text, without_nul

JobState = Literal["queued", "running", "waiting_input", "succeeded", "failed", "cancelled", "lost"]
Wait = Annotated[Duration, Field(le=24 * 3600.0)]
LAST_MOMENT_MS = 253_402_300_799_999  # of the year 9999


class JobParams(Params):
    """job.get, job.retry, job.release."""

    job_id: Id


class WaitParams(Params):
    """job.wait."""

    job_id: Id
    timeout_s: Wait = 30.0


class CancelParams(Params):
    """job.cancel: `gently` lets the job end by itself for a while before it is interrupted."""

    job_id: Id
    mode: Literal["now", "gently"] = "now"


class LogParams(Params):
    """job.log: lines after a number; `follow` waits for more while the job runs, `timeout_s` at the most."""

    job_id: Id
    after: Annotated[int, Field(ge=0)] = 0
    follow: bool = False
    timeout_s: Wait = 30.0
    limit: Limit = 200


def _an_address(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.username is None and (parts.port is None or parts.port > 0):
            return url
    except ValueError:
        pass  # said below
    raise ValueError("it is no address: write https://host/path, without a user, with other signs as %XX")


class CallbackParams(Params):
    """Who is told of a job's end: an https address, and the name of the operator's secret that signs it."""

    url: Annotated[str, Field(pattern=r"^https://[!-~]+$", max_length=2000), AfterValidator(_an_address)]
    secret: Annotated[str, Field(min_length=1, max_length=100)]


class RunParams(SessionParams):
    """job.run."""

    function: Id
    data: dict[str, Any] = {}
    wait: bool = True
    timeout_s: Wait | None = None
    dedup_key: Annotated[str | None, Field(max_length=200), AfterValidator(lambda key: key and without_nul(key))] = None
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    delay_s: Annotated[float, Field(ge=0, le=366 * 24 * 3600.0), AfterValidator(none_or_some)] = 0
    callback: CallbackParams | None = None


class ListJobsParams(Params):
    """jobs.list; `held` lists instead the jobs that wait for the caller's approval."""

    state: JobState | None = None
    function: Id | None = None
    session_id: Id | None = None
    held: bool = False
    limit: Limit = 50
    cursor: Cursor = None


class ScheduleParams(SessionParams):
    """job.schedule: exactly one of `cron`, `every_s` and `at` (UTC milliseconds)."""

    function: Id
    data: dict[str, Any] = {}
    cron: Text | None = None
    timezone: Text = "UTC"
    every_s: Duration | None = None
    at: Annotated[int, Field(ge=0, le=LAST_MOMENT_MS)] | None = None
    catch_up: bool = False

    @model_validator(mode="after")
    def _one_time(self) -> "ScheduleParams":
        if sum(value is not None for value in (self.cron, self.every_s, self.at)) != 1:
            raise ValueError("give exactly one of cron, every_s and at")
        return self


class PageParams(Params):
    """A list without other choices."""

    limit: Limit = 50
    cursor: Cursor = None


class DeleteScheduleParams(Params):
    """schedule.delete."""

    schedule_id: Id


class ListAsksParams(SessionParams):
    """asks.list."""

    limit: Limit = 50
    cursor: Cursor = None


class AnswerParams(Params):
    """ask.answer: the answer, or `decline` to leave the job with its default or an error."""

    ask_id: Id
    answer: Any = None
    decline: bool = False


class JobProgress(Shape):
    """How far a job is: `done` of `total`; `fraction` of 1 when the end is known."""

    done: float
    total: float | None
    fraction: float | None
    message: str


class CallbackState(Shape):
    """How telling a job's end outside fares; `status` is what the address answered last."""

    url: str
    state: str
    tries: int
    status: int | None
    problem: str | None
    next_at: int | None


class JobRecord(Shape):
    """A job as `job.get` and `jobs.list` tell it; times are UTC milliseconds. `data` and `callback` only in `job.get`.

    `run_at`: a queued job does not start before. `brought_by`: the credentials it needs. `cancelling`: somebody wants
    it to stop, and it has not yet.
    """

    job_id: str
    function: str
    state: str
    owner_id: str
    session_id: str | None
    parent_id: str | None
    retry_of: str | None
    attempts: int
    priority: int
    held: bool
    cancelling: bool
    run_at: int | None
    progress: JobProgress | None
    result: Any
    error: dict[str, Any] | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    brought_by: list[str]
    data: dict[str, Any] | None = None
    callback: CallbackState | None = None
