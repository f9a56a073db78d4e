"""job.get."""

from typing import Any

from jobs import rows
from jobs.errors import JobNotFound
from rpcserver import views
from rpcserver.dispatch import Call, method
from rpcserver.models import JobParams


@method("job.get", JobParams)
async def get(call: Call, params: JobParams) -> dict[str, Any]:
    """Return one of the caller's jobs."""
    row = await call.app.store.read(lambda tx: rows.find(tx, params.job_id))
    if row is None or row.owner_id != call.user_id:
        raise JobNotFound(params.job_id)
    return views.job_record(row)


METHODS = (get,)
