"""job.run, get, wait, cancel, retry, release, log, schedule; schedule.delete."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from jobs import rows, schedules, webhooks
from jobs.errors import JobEnded, JobNotFound, UnknownFunction
from jobs.model import JobRow, JobSpec, Request
from jobs.run import as_json
from rpcserver.errors import Forbidden, JobNotFailed
from rpcserver.events import scopes
from rpcserver.openrpc import examples
from rpcserver.rpc import errors, replies
from rpcserver.rpc.calls import method
from rpcserver.schemas.job import (
    CancelParams,
    DeleteScheduleParams,
    JobParams,
    JobRecord,
    ListJobsParams,
    LogParams,
    PageParams,
    RunParams,
    ScheduleParams,
    WaitParams,
)
from rpcserver.schemas.results import (
    JobFunctions,
    JobId,
    JobLog,
    JobPage,
    JobRun,
    JobStatistics,
    Schedule,
    SchedulePage,
)
from rpcserver.schemas.session import NoParams
from rpcserver.services import Call
from rpcserver.sessions import views
from store import Tx, new_id


def _unfinished(job_id: str, state: str) -> dict[str, Any]:
    return {"job_id": job_id, "state": state, "next": replies.wait_for(job_id)}


@method(
    "job.run",
    RunParams,
    result=JobRun,
    errors=(*errors.RUN, "SESSION_NOT_FOUND", "REMOTE_UNAVAILABLE"),
    examples=examples.JOB_RUN,
    unfinished=_unfinished,
)
async def run(call: Call, params: RunParams) -> dict[str, Any]:
    """Run a job function; without `wait`, or when the wait outlasts its time, the answer tells the job's state.

    The time a person is asked is not the job's: it goes on in state `waiting_input`, and `job.wait` waits for its end.

    A job that fails while the call waits is the call's error, with the job's id. The same `dedup_key` gives the same
    job, in whatever state it is by now, as long as its record is kept; one that failed, was cancelled or lost is run
    anew, and `job.retry` takes its key over.
    """
    spec = _runnable(call, params.function)
    request = await _request(call, params, spec)
    runner = call.runner
    if params.wait and not _needs_row(call, params, spec):
        if spec.lane == "local":
            call.job_id = request.job_id
        result = await runner.run(spec.name, params.data, request, on_progress=call.progress)
        return {"job_id": request.job_id, "state": "succeeded", "result": orjson.Fragment(as_json(result))}
    job_id = await call.submit(spec.name, params.data, request)
    if not params.wait:
        state = "queued" if job_id == request.job_id else (await _own(call, job_id)).state
        return {"job_id": job_id, "state": state}
    row = await _waited(call, job_id, params.timeout_s)
    if row.state in ("failed", "cancelled", "lost"):
        raise JobEnded(job_id, orjson.loads(row.error or "{}"))
    if row.state == "succeeded":
        return {"job_id": job_id, "state": row.state, "result": orjson.Fragment(row.result or "null")}
    return _unfinished(job_id, row.state)


@method("job.get", JobParams, result=JobRecord, errors=("JOB_NOT_FOUND",), examples=examples.JOB_GET, is_change=False)
async def get(call: Call, params: JobParams) -> dict[str, Any]:
    """Return one of the caller's jobs, or one that waits for his approval, with its data and how its callback fares."""
    row = await _visible(call, params.job_id)
    record = {**views.job_record(row, call.services.clock), "data": orjson.Fragment(row.data)}
    told = await call.services.store.read(lambda tx: webhooks.find(tx, params.job_id))
    if told is not None:
        record["callback"] = views.callback(told, call.services.clock)
    return record


@method(
    "job.wait",
    WaitParams,
    is_change=False,
    timeout_s=24 * 3600.0,
    result=JobRecord,
    errors=("JOB_NOT_FOUND",),
    examples=examples.JOB_WAIT,
)
async def wait(call: Call, params: WaitParams) -> dict[str, Any]:
    """Wait until a job has ended, `timeout_s` at the most, and return its record as it is then."""
    await _own(call, params.job_id)
    return views.job_record(await _waited(call, params.job_id, params.timeout_s), call.services.clock)


@method("job.cancel", CancelParams, result=bool, errors=("JOB_NOT_FOUND",), examples=examples.JOB_CANCEL)
async def cancel(call: Call, params: CancelParams) -> bool:
    """Stop a job, with the jobs inside it; false when it had ended. A held job can be refused so by its approver."""
    await _visible(call, params.job_id)
    return await call.runner.cancel(params.job_id, params.mode)


@method(
    "job.retry",
    JobParams,
    result=JobId,
    errors=(*errors.STORAGE, "JOB_NOT_FOUND", "FUNCTION_NOT_FOUND", "JOB_NOT_FAILED", "JOB_DATA_HIDDEN", "JOB_LIMIT"),
    examples=examples.JOB_RETRY,
)
async def retry(call: Call, params: JobParams) -> dict[str, Any]:
    """Run a job that ended badly again, as a new job whose `retry_of` names it."""
    row = await _own(call, params.job_id)
    _runnable(call, row.function)
    if row.state not in ("failed", "cancelled", "lost"):
        raise JobNotFailed(row.state)
    return {"job_id": await call.runner.retry(params.job_id, call.authority)}


@method("job.release", JobParams, result=bool, errors=("JOB_NOT_FOUND",), examples=examples.JOB_RELEASE)
async def release(call: Call, params: JobParams) -> bool:
    """Approve a held job of a user whose approver the caller is; false when it was not held."""
    row = await _visible(call, params.job_id)
    if row.owner_id == call.user_id:
        raise Forbidden("Your own jobs are for your approver to release.")
    return await call.runner.release(params.job_id)


@method(
    "job.log",
    LogParams,
    is_change=False,
    timeout_s=24 * 3600.0,
    result=JobLog,
    errors=("JOB_NOT_FOUND",),
    examples=examples.JOB_LOG,
)
async def log(call: Call, params: LogParams) -> dict[str, Any]:
    """Return what a job said, line by line; `next` is the `after` of the call that goes on."""
    row = await _own(call, params.job_id)
    lines = await call.services.store.read(lambda tx: rows.lines(tx, row.id, params.after, params.limit))
    if params.follow and not lines and not row.is_over:
        row, lines = await _followed(call, params)
    return {
        "lines": [{"number": number, "at": at, "text": text} for number, at, text in lines],
        "next": lines[-1][0] if lines else params.after,
        "state": row.state,
    }


@method(
    "job.schedule",
    ScheduleParams,
    result=Schedule,
    errors=(
        *errors.STORAGE,
        "FUNCTION_NOT_FOUND",
        "BAD_JOB_DATA",
        "BAD_SCHEDULE",
        "SCHEDULE_LIMIT",
        "SESSION_NOT_FOUND",
    ),
    examples=examples.JOB_SCHEDULE,
)
async def schedule(call: Call, params: ScheduleParams) -> dict[str, Any]:
    """Have a job function run by a cron line, at an interval, or at a moment; it cannot ask then.

    What fell due and was not run, as while the server was down, is told as `schedule.missed`; with `catch_up` it is run
    once. A cron line has five fields and is read in `timezone`, also where its clocks change.
    """
    spec = _runnable(call, params.function)
    if params.cron is not None:
        when = schedules.cron(params.cron, params.timezone)
    elif params.every_s is not None:
        when = schedules.interval(params.every_s)
    else:
        when = schedules.moment(params.at or 0)
    session_id = None
    if params.session_id is not None:
        session_id = (await call.session(params.session_id)).id
    made = await call.runner.schedules.create(
        spec.name, params.data, call.user_id, call.authority, session_id, when, is_catching_up=params.catch_up
    )
    return views.schedule(made, call.services.clock)


@method(
    "schedule.delete",
    DeleteScheduleParams,
    result=bool,
    errors=("SCHEDULE_NOT_FOUND",),
    examples=examples.SCHEDULE_DELETE,
)
async def schedule_delete(call: Call, params: DeleteScheduleParams) -> bool:
    """Take a schedule away; jobs it started go on."""
    await call.runner.schedules.delete(params.schedule_id, call.user_id, scopes.sees(call.authority))
    return True


async def _request(call: Call, params: RunParams, spec: JobSpec) -> Request:
    if params.callback is not None:
        # Now, rather than when the job has ended and nobody looks.
        remotes = call.services.outside.remotes
        remotes.secret(params.callback.secret, params.callback.url, call.principal.user.name)
        remotes.check(params.callback.url)
    session = await call.session(params.session_id)
    return replace(
        call.job_request(session.id, is_interactive=bool(session.is_interactive)),
        admitted=spec.name,
        priority=params.priority,
        delay_s=params.delay_s,
        dedup_key=params.dedup_key,
        job_id=new_id("j_"),
        callback=params.callback.model_dump_json() if params.callback else None,
    )


def _runnable(call: Call, function: str) -> JobSpec:
    """Return a job function that the caller names. Raises UnknownFunction or NotAllowed."""
    spec = call.runner.spec(function)
    if spec is None or spec.is_internal:
        raise UnknownFunction(function, [spec.name for spec in call.runner.functions if not spec.is_internal])
    call.authority.require(function)
    return spec


def _needs_row(call: Call, params: RunParams, spec: JobSpec) -> bool:
    """Tell whether the job has to be on disk before it starts: it may outlast the call, or be looked up later."""
    is_timed = params.timeout_s is not None or (spec.lane == "local" and "deadline_ms" in call.meta)
    is_known = params.dedup_key is not None or (params.callback is not None and spec.lane == "memory")
    return spec.lane == "long" or params.delay_s > 0 or is_timed or is_known


async def _waited(call: Call, job_id: str, timeout_s: float | None) -> JobRow:
    runner, left_s = call.runner, call.patience_s
    with runner.audience.watched(job_id, call.progress):
        return await runner.wait(job_id, left_s if timeout_s is None else min(timeout_s, left_s))


async def _followed(call: Call, params: LogParams) -> tuple[JobRow, list[tuple[int, int, str]]]:
    """Wait until a live job has said more, or has ended, and return its row and the lines."""
    heard = call.runner.audience.listen(params.job_id)

    def look(tx: Tx) -> tuple[JobRow | None, list[tuple[int, int, str]]]:
        return rows.find(tx, params.job_id), rows.lines(tx, params.job_id, params.after, params.limit)

    row, lines = await call.services.store.read(look)  # after we listen: nothing said in between is missed
    if row is not None and not lines and not row.is_over:
        with suppress(TimeoutError):
            async with asyncio.timeout(params.timeout_s):
                await heard.wait()
        row, lines = await call.services.store.read(look)
    elif row is None or row.is_over:
        call.runner.audience.said(params.job_id)
    if row is None:
        raise JobNotFound(params.job_id)
    return row, lines


async def _own(call: Call, job_id: str) -> JobRow:
    row = await call.runner.get(job_id)
    if row is None or row.owner_id != call.user_id or not _is_seen(call, row):
        raise JobNotFound(job_id)
    return row


def _is_seen(call: Call, row: JobRow) -> bool:
    return scopes.sees_job(call.authority, row.function, row.authority)


async def _visible(call: Call, job_id: str) -> JobRow:
    row = await call.runner.get(job_id)
    if row is not None and row.owner_id != call.user_id:
        owner_id = row.owner_id
        approver_id = await call.services.store.read(lambda tx: rows.approver_of(tx, owner_id))
        if approver_id != call.user_id or not row.is_held:
            row = None
    if row is None or not _is_seen(call, row):
        raise JobNotFound(job_id)
    return row


@method(
    "jobs.list",
    ListJobsParams,
    is_change=False,
    result=JobPage,
    errors=("INVALID_CURSOR",),
    examples=examples.JOBS,
)
async def list_(call: Call, params: ListJobsParams) -> dict[str, Any]:
    """Return the caller's jobs, the newest first. Jobs that only read leave no row.

    A page may hold fewer items than asked for and still have a `next_cursor`: so many jobs are looked at, and no more.
    """
    cursors, store, limit = call.services.cursors, call.services.store, params.limit
    scope = ("jobs", call.user_id, params.state, params.function, params.session_id, params.held)
    position = cursors.decode(params.cursor, *scope)
    before = position[0] if position else None
    wanted = (params.state, params.function, params.session_id)
    sees = scopes.sees(call.authority)
    if params.held:
        found, onward = await store.read(lambda tx: rows.held_for(tx, call.user_id, limit, before, sees))
    else:
        found, onward = await store.read(lambda tx: rows.page(tx, call.user_id, limit, before, *wanted, sees))
    return {
        "items": [views.job_record(row, clock=call.services.clock) for row in found],
        "next_cursor": cursors.encode([onward] if onward else None, *scope),
    }


@method("jobs.functions", NoParams, is_change=False, result=JobFunctions, examples=examples.FUNCTIONS)
async def functions(call: Call, params: NoParams) -> dict[str, Any]:
    """Return every job function the caller may run: what it does, what it takes, and the core calls it declares.

    Those that are `internal` are started by the server alone; a credential with narrow scopes is not told of them.
    """
    described, authority = await call.services.description.job_functions(), call.authority
    if authority.is_unlimited:
        return {"items": list(described.values())}
    named = (spec.name for spec in call.runner.functions if not spec.is_internal and authority.may(spec.name))
    return {"items": [described[name] for name in named]}


@method("jobs.stats", NoParams, is_change=False, result=JobStatistics, examples=examples.STATS)
def stats(call: Call, params: NoParams) -> dict[str, Any]:
    """Return, of the caller's jobs by function and since the server started: runs, errors, and how long they took.

    A run is an attempt, the time its questions waited included; p50 and p99 are of the newest 512.
    """
    table = call.runner.stats.table(call.user_id)
    return {"items": [counts for counts in table if call.authority.may(counts["function"])]}


@method(
    "schedules.list",
    PageParams,
    is_change=False,
    result=SchedulePage,
    errors=("INVALID_CURSOR",),
    examples=examples.SCHEDULES,
)
async def list_schedules(call: Call, params: PageParams) -> dict[str, Any]:
    """Return the caller's schedules, the oldest first."""
    scope = ("schedules", call.user_id)
    position = call.services.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    sees = scopes.sees(call.authority)
    found = await call.services.store.read(lambda tx: schedules.page(tx, call.user_id, params.limit + 1, after, sees))
    return call.services.cursors.page(found, params.limit, partial(views.schedule, clock=call.services.clock), *scope)


METHODS = (
    run,
    get,
    wait,
    cancel,
    retry,
    release,
    log,
    schedule,
    schedule_delete,
    list_,
    functions,
    stats,
    list_schedules,
)
