"""A plugin in one file: it offers a command, and the command's action runs a job of its own and waits for it.

    rpcserver serve --plugin examples/03_plugin.py

Then, in a session: `session.action {"token_id": "03_plugin.survey"}`. What the job found stands in `response` under
this plugin's name, which is the file's. A plugin imports `rpcserver.plugin` and nothing else of the server.
"""

from collections import Counter
from functools import partial
from typing import Any

from pydantic import BaseModel

from rpcserver.plugin import Action, Command, JobContext, JobSpec, Pallet, hookimpl, job

SURVEY = "03_plugin.survey"
PAGE = 200


class Survey(BaseModel):
    """Input of the job: which set to look through."""

    set_id: str


@job(SURVEY, Survey, calls=["core.set.read"])
async def survey(job: JobContext, data: Survey) -> dict[str, Any]:
    """Count what stands in a set, by type, and add up the sizes: page by page, however much it holds."""
    types: Counter[str] = Counter()
    size = 0
    after = None
    while True:
        page = await job.read(partial(_page, set_id=data.set_id, after=after))
        for entry in page.entries:
            types[entry.type] += 1
            size += entry.attributes.get("size", 0)
        after = page.next
        if after is None:
            return {"types": dict(types), "bytes": size}


@hookimpl
def register_jobs() -> list[JobSpec]:
    """Bring the job."""
    return [survey]


@hookimpl
def session_pallet(pallet: Pallet) -> list[Command]:
    """Offer the command wherever the session stands."""
    return [Command(SURVEY, "Survey", f"count what stands in {pallet.place.name}")]


@hookimpl
async def session_action(action: Action) -> dict[str, Any] | None:
    """Run the job and answer with what it found; another plugin's command is none of ours."""
    if action.token_id != SURVEY:
        return None
    action.handled = True
    found: dict[str, Any] = await action.run(SURVEY, {"set_id": action.session.working_set_id})
    return found


def _page(core: Any, set_id: str, after: Any) -> Any:
    # Only the core calls the job declared can be made, and only in the name of the session's user.
    return core.named("core.set.read", set_id=set_id, limit=PAGE, after=after)
