"""jobs.list and jobs.functions."""

from typing import Any

from jobs import rows
from rpcserver import views
from rpcserver.dispatch import Call, method
from rpcserver.models import ListJobsParams, NoParams


@method("jobs.list", ListJobsParams)
async def list_(call: Call, params: ListJobsParams) -> dict[str, Any]:
    """Return the caller's jobs, the newest first. Jobs that only read leave no row."""
    scope = ("jobs", call.user_id, params.state)
    position = call.app.cursors.decode(params.cursor, *scope)
    before = position[0] if position else None
    found = await call.app.store.read(lambda tx: rows.page(tx, call.user_id, params.limit + 1, before, params.state))
    page = found[: params.limit]
    next_cursor = call.app.cursors.encode([page[-1].id], *scope) if len(found) > params.limit else None
    return {"items": [views.job_record(row) for row in page], "next_cursor": next_cursor}


@method("jobs.functions", NoParams)
def functions(call: Call, params: NoParams) -> dict[str, Any]:
    """Return every job function: what it does, what it takes, and the core calls it declares."""
    items = [
        {
            "name": spec.name,
            "doc": spec.doc,
            "lane": spec.lane,
            "input": spec.input.model_json_schema(),
            "core_calls": sorted(spec.calls),
            "timeout_s": spec.timeout_s,
        }
        for spec in call.app.runner.functions
    ]
    return {"items": items}


METHODS = (list_, functions)
