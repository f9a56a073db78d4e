"""What can go wrong with a job.

JobsError
├── UnknownFunction  no job function of that name
├── BadJobData       the data does not fit the function's schema
├── JobNotFound      no such job, or not the caller's
├── DataHidden       the job was handed a secret, so its row cannot be run again
├── JobTimeout       the job ran longer than it may
├── JobCancelled     somebody stopped the job
├── JobFailed        the job raised something unforeseen; `ref` stands in the log
├── JobEnded         the job ended badly some time ago: `error` is what its row says
├── JobOvertaken     a later attempt ended the job before this one
├── ResultTooLarge   the job's result is larger than a row may hold
├── TooManyJobs      the user has as many jobs waiting as they may have
├── TooDeep          jobs started jobs started jobs
├── AskDeclined      a question found nobody to answer it
├── AskNotFound      no such open question, or not the caller's
├── BadAnswer        the answer does not fit the question
├── BadApprover      nobody approves their own jobs
├── BadSchedule      the schedule cannot be understood
├── TooManySchedules the user has as many schedules as they may have
├── ScheduleNotFound no such schedule, or not the caller's
├── BadWorld         a world file cannot be used; nothing of it was made
├── ScriptFailed     a script raised, or its worker died
├── ScriptLimit      a script used more time, memory, depth or output than it may, or too many wait
├── ScriptsUnavailable  the server has no sandbox for scripts
├── RemoteUnavailable   a remote is off, not allowed, too slow, too busy, or answered with a failure
│   └── RemoteCooling       it was called a moment ago
├── AttributePending    a write waits for its answer
├── NotAllowed          a credential's scopes do not include what is to be done
├── CredentialEnded     a credential by which it is to be done allows nothing any more
│   ├── CredentialRevoked
│   ├── CredentialExpired
│   └── AccountFrozen       its user, or whoever holds it, is frozen
├── CallsSpent          a limited credential has no call left
│   └── CallsSpentForNow    in this interval
└── JobError         raised by a job on purpose: its text is meant for the caller
"""

from collections.abc import Iterable
from typing import Any, ClassVar

from core.errors import CoreError
from heroscript.errors import PlayError
from jobs.nearest import nearest
from store import PoolError, StoreError, named


class JobsError(Exception):
    """The job could not be done."""

    code: ClassVar[str]  # the name of the code that a client is told
    kind: ClassVar[str]  # what a client can tell it by; one without is an error of the server's
    is_retryable: ClassVar[bool] = False


class UnknownFunction(JobsError):
    """There is no job function of that name."""

    code = "NOT_FOUND"
    kind = "FUNCTION_NOT_FOUND"

    def __init__(self, function: str, known: Iterable[str] = ()) -> None:
        self.function = function
        near = nearest(function, known)
        advice = f"did you mean {', '.join(near)}? " if near else ""
        super().__init__(f"There is no job function {function[:80]!r} to run: {advice}jobs.functions lists them.")


class BadJobData(JobsError):
    """The data does not fit the function's schema."""

    code = "INVALID_PARAMS"
    kind = "BAD_JOB_DATA"

    def __init__(self, function: str, errors: list[dict[str, Any]]) -> None:
        self.function = function
        self.errors = errors
        first = errors[0] if errors else {}
        where = ".".join(str(part) for part in first.get("loc", ())) or "data"
        super().__init__(f"The data does not fit {function!r}: {where}: {first.get('msg', 'invalid')}.")


class JobNotFound(JobsError):
    """There is no such job, or it is not yours."""

    code = "NOT_FOUND"
    kind = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"No job {job_id[:80]!r} of yours: jobs.list names them.")


class DataHidden(JobsError):
    """The job was handed a secret, which its row does not hold: it cannot be run again by itself."""

    code = "CONFLICT"
    kind = "JOB_DATA_HIDDEN"

    def __init__(self, job_id: str, function: str) -> None:
        self.job_id, self.function = job_id, function
        super().__init__(f"The job {function!r} was handed a secret, which is kept nowhere: play its action again.")


class JobTimeout(JobsError):
    """The job ran longer than it may, and was stopped; nothing it had not finished was stored."""

    code = "TIMED_OUT"
    kind = "JOB_TIMEOUT"
    is_retryable = True

    def __init__(self, job_id: str, function: str, timeout_s: float) -> None:
        self.job_id, self.function, self.timeout_s = job_id, function, timeout_s
        super().__init__(f"The job {function!r} was stopped after {timeout_s:g} s.")


class JobCancelled(JobsError):
    """Somebody stopped the job."""

    code = "CANCELLED"
    kind = "CANCELLED"

    def __init__(self, job_id: str, function: str) -> None:
        self.job_id, self.function = job_id, function
        super().__init__(f"The job {function!r} was cancelled.")


class JobFailed(JobsError):
    """The job failed; `ref` stands in the server's log."""

    code = "JOB_FAILED"
    kind = "JOB_FAILED"

    def __init__(self, job_id: str, function: str, ref: str) -> None:
        self.job_id, self.function, self.ref = job_id, function, ref
        super().__init__(f"The job {function!r} failed. The server's log says why, under {ref}.")


class JobEnded(JobsError):
    """The job ended badly; `error` is what its row says: kind, message, code."""

    def __init__(self, job_id: str, error: dict[str, Any]) -> None:
        self.job_id, self.error = job_id, error
        super().__init__(str(error.get("message", "The job failed.")))


class JobOvertaken(JobsError):
    """A later attempt has taken the job over; what this one did is not stored."""

    def __init__(self, job_id: str, function: str) -> None:
        self.job_id, self.function = job_id, function
        super().__init__(f"The job {function!r} was taken over by a later attempt.")


class ResultTooLarge(JobsError):
    """The result is larger than a row may hold."""

    code = "RESPONSE_TOO_LARGE"
    kind = "RESULT_TOO_LARGE"

    def __init__(self, job_id: str, function: str, size: int, limit: int) -> None:
        self.job_id, self.function, self.size, self.limit = job_id, function, size, limit
        super().__init__(
            f"The result of {function!r} has at least {size} bytes, the limit is {limit}: return less, or where it is."
        )


class TooManyJobs(JobsError):
    """The user has as many jobs waiting as they may have."""

    code = "BUSY"
    kind = "JOB_LIMIT"
    is_retryable = True

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"You have {limit} jobs waiting, the most allowed: wait for some to end.")


class TooDeep(JobsError):
    """Jobs started jobs too many times over."""

    code = "JOB_FAILED"
    kind = "TOO_DEEP"

    def __init__(self, function: str, limit: int) -> None:
        self.function = function
        super().__init__(f"{function!r} would be started {limit} jobs deep: jobs may not nest that far.")


class AskDeclined(JobsError):
    """A question found nobody to answer it."""

    code = "DECLINED"
    kind = "ASK_DECLINED"

    def __init__(self, text: str, why: str, *, is_late: bool = False) -> None:
        self.text, self.is_late = text, is_late
        super().__init__(f"The question {text[:80]!r} was not answered: {why}")


class AskNotFound(JobsError):
    """There is no such open question, or it is not yours."""

    code = "NOT_FOUND"
    kind = "ASK_NOT_FOUND"

    def __init__(self, ask_id: str) -> None:
        self.ask_id = ask_id
        super().__init__(f"No open question {ask_id[:80]!r} of yours: it may have been answered. asks.list names them.")


class BadAnswer(JobsError):
    """The answer does not fit the question."""

    code = "INVALID_PARAMS"
    kind = "BAD_ANSWER"

    def __init__(self, ask_id: str, reason: str) -> None:
        self.ask_id = ask_id
        super().__init__(f"The answer does not fit the question: {reason}")


class BadApprover(JobsError):
    """Nobody approves their own jobs: name another user."""

    code = "INVALID_PARAMS"
    kind = "BAD_APPROVER"

    def __init__(self) -> None:
        super().__init__("Nobody approves their own jobs: name another user as the approver.")


class BadSchedule(JobsError):
    """The schedule cannot be understood."""

    code = "INVALID_PARAMS"
    kind = "BAD_SCHEDULE"


class TooManySchedules(JobsError):
    """The user has as many schedules as they may have."""

    code = "BUSY"
    kind = "SCHEDULE_LIMIT"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"You have {limit} schedules, the most allowed: take one away with schedule.delete.")


class ScheduleNotFound(JobsError):
    """There is no such schedule, or it is not yours."""

    code = "NOT_FOUND"
    kind = "SCHEDULE_NOT_FOUND"

    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"No schedule {schedule_id[:80]!r} of yours: schedules.list names them.")


class BadWorld(JobsError):
    """The world file cannot be used; nothing of it was made."""

    code = "INVALID_PARAMS"
    kind = "BAD_WORLD"

    def __init__(self, place: str, reason: str) -> None:
        self.place, self.reason = place, reason
        where = f". At {place}" if place else ""
        super().__init__(f"The world cannot be imported, and nothing of it was{where}: {reason.rstrip('.')}.")


class ScriptFailed(JobsError):
    """A script failed; only what asked it is concerned."""

    code = "JOB_FAILED"
    kind = "SCRIPT_FAILED"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The script failed: {reason}.")


class ScriptLimit(JobsError):
    """A script used more than it may."""

    code = "JOB_FAILED"
    kind = "SCRIPT_LIMIT"
    is_retryable = True

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        self.reason = reason
        self.retry_after_ms = None if retry_after_s is None else max(1, round(retry_after_s * 1000))
        super().__init__(f"The script was stopped: {reason}.")


class ScriptsUnavailable(JobsError):
    """The server cannot run scripts: its operator has to install the extra `scripts`."""

    code = "JOB_FAILED"
    kind = "SCRIPTS_UNAVAILABLE"

    def __init__(self) -> None:
        super().__init__(
            "This server runs no scripts: they need the extra 'scripts', pip install 'rpcserver[scripts]'."
        )


class RemoteUnavailable(JobsError):
    """A remote gave no answer; `status` is that of HTTP, if there was one."""

    code = "JOB_FAILED"
    kind = "REMOTE_UNAVAILABLE"
    is_retryable = True

    def __init__(self, reason: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        self.reason, self.status = reason, status
        self.retry_after_ms = None if retry_after_s is None else max(1, round(retry_after_s * 1000))
        super().__init__(f"The remote gave no answer: {reason}.")


class RemoteCooling(RemoteUnavailable):
    """The remote was called a moment ago, and is left alone for a while."""


class AttributePending(JobsError):
    """A write waits for its answer: until then nobody reads the attribute."""

    code = "CONFLICT"
    kind = "ATTRIBUTE_PENDING"
    is_retryable = True

    def __init__(self, activity_id: str | None = None) -> None:
        self.activity_id = activity_id
        who = "Somebody has been asked and has" if activity_id else "What was written to it is on its way and is"
        super().__init__(f"{who} not answered yet: read again in a while, or listen to remote.answered.")


class NotAllowed(JobsError):
    """The credential does not reach that far."""

    code = "FORBIDDEN"
    kind = "FORBIDDEN"

    def __init__(self, name: str, credential_id: str, label: str) -> None:
        self.credential_id = credential_id or None
        super().__init__(f"The credential {label!r} may not call {name[:80]}: use one whose scopes include it.")


class CredentialEnded(JobsError):
    """The credential allows nothing any more."""

    code = "UNAUTHENTICATED"
    why = "has ended"

    def __init__(self, credential_id: str = "", label: str = "") -> None:
        self.credential_id = credential_id or None
        super().__init__(f"The credential{f' {label!r}' if label else ''} {self.why}.")


class CredentialRevoked(CredentialEnded):
    """The credential was revoked, and what it brought with it."""

    kind = "CREDENTIAL_REVOKED"
    why = "was revoked, and with it what it brought: do it again with another"


class CredentialExpired(CredentialEnded):
    """The credential has expired: refresh it in time, or use another."""

    kind = "CREDENTIAL_EXPIRED"
    why = "has expired: call auth.refresh in time, or authenticate with another"


class AccountFrozen(CredentialEnded):
    """The account is frozen: nothing is done in its name until the operator lets it go."""

    kind = "ACCOUNT_FROZEN"

    def __init__(self, credential_id: str = "", label: str = "") -> None:
        self.credential_id = credential_id or None
        JobsError.__init__(self, "The account is frozen: ask the operator.")


class CallsSpent(JobsError):
    """The limited credential has no call left."""

    code = "FORBIDDEN"
    kind = "CALLS_SPENT"

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"This credential was good for {limit} calls, and they are spent: ask its owner for another.")


class CallsSpentForNow(CallsSpent):
    """The limited credential has no call left in this interval."""

    code = "RATE_LIMITED"
    kind = "CALLS_SPENT_FOR_NOW"
    is_retryable = True

    def __init__(self, limit: int, retry_after_ms: int) -> None:
        self.limit, self.retry_after_ms = limit, retry_after_ms
        JobsError.__init__(self, f"This credential is good for {limit} calls in each interval: wait for the next.")


class JobError(JobsError):
    """A failure that a job reports in words meant for the caller."""

    code = "JOB_FAILED"
    kind = "JOB_FAILED"


# What has words for the caller and is no fault of the program: told as it is, and logged without a traceback.
FORESEEN: tuple[type[Exception], ...] = (CoreError, JobsError, StoreError, PoolError, PlayError)


def raise_if_of_disk(error: OSError) -> None:
    """Raise the StoreError that an error means when the server's disk is full or gone, or no descriptor is left."""
    if isinstance(meaning := named(error), StoreError):
        raise meaning from error
