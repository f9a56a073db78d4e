"""jobs.list, jobs.functions, jobs.stats; schedules.list."""

from functools import partial
from typing import Any

import orjson

from jobs import rows, schedules
from jobs.model import JobSpec
from rpcserver import examples, views, visibility
from rpcserver.dispatch import Call, method
from rpcserver.job_models import ListJobsParams, PageParams
from rpcserver.models import NoParams
from rpcserver.results import JobFunctions, JobPage, JobStatistics, SchedulePage


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
    cursors, store, limit = call.app.cursors, call.app.store, params.limit
    scope = ("jobs", call.user_id, params.state, params.function, params.session_id, params.held)
    position = cursors.decode(params.cursor, *scope)
    before = position[0] if position else None
    wanted = (params.state, params.function, params.session_id)
    sees = visibility.sees(call.authority)
    if params.held:
        found, onward = await store.read(lambda tx: rows.held_for(tx, call.user_id, limit, before, sees))
    else:
        found, onward = await store.read(lambda tx: rows.page(tx, call.user_id, limit, before, *wanted, sees))
    return {
        "items": [views.job_record(row, clock=call.app.clock) for row in found],
        "next_cursor": cursors.encode([onward] if onward else None, *scope),
    }


@method("jobs.functions", NoParams, is_change=False, result=JobFunctions, examples=examples.FUNCTIONS)
async def functions(call: Call, params: NoParams) -> dict[str, Any]:
    """Return every job function the caller may run: what it does, what it takes, and the core calls it declares.

    Those that are `internal` are started by the server alone; a credential with narrow scopes is not told of them.
    """
    app, authority = call.app, call.authority
    if app.job_functions is None:
        # Once, and not on the loop: so many schemas take longer than others should wait.
        app.job_functions = await app.pools.answers.run(_listed, app.runner.functions)
    if authority.is_unlimited:
        return {"items": list(app.job_functions.values())}
    named = (spec.name for spec in app.runner.functions if not spec.is_internal and authority.may(spec.name))
    return {"items": [app.job_functions[name] for name in named]}


def _listed(specs: list[JobSpec]) -> dict[str, orjson.Fragment]:
    return {spec.name: orjson.Fragment(orjson.dumps(views.job_function(spec))) for spec in specs}


@method("jobs.stats", NoParams, is_change=False, result=JobStatistics, examples=examples.STATS)
def stats(call: Call, params: NoParams) -> dict[str, Any]:
    """Return, of the caller's jobs by function and since the server started: runs, errors, and how long they took.

    A run is an attempt, the time its questions waited included; p50 and p99 are of the newest 512.
    """
    table = call.app.runner.stats.table(call.user_id)
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
    position = call.app.cursors.decode(params.cursor, *scope)
    after = position[0] if position else None
    sees = visibility.sees(call.authority)
    found = await call.app.store.read(lambda tx: schedules.page(tx, call.user_id, params.limit + 1, after, sees))
    return call.app.cursors.page(found, params.limit, partial(views.schedule, clock=call.app.clock), *scope)


METHODS = (list_, functions, stats, list_schedules)
