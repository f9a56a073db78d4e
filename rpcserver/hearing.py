"""What the edge makes of what happens to jobs and in the world, inside the transactions that make it true."""

from typing import TYPE_CHECKING

from core import rules
from core.notices import Notice
from jobs.model import JobEvent
from plugins.hooks import FinishedJob
from store import Tx

if TYPE_CHECKING:
    from rpcserver.app import App


def hear(app: "App", tx: Tx, notice: Notice) -> None:
    """Take a notice of a core call, inside its transaction."""
    if notice.event == "rule_created" and not app.has_asking_rules and rules.any_asks(tx):
        # Known before the rule's maker has his answer: the next move asks it, and none has to be made twice.
        tx.after_commit(app.ask_rules)


def announce(app: "App", tx: Tx, event: JobEvent) -> None:
    """Tell a job's owner what happens to it."""
    data = {"job_id": event.job_id, "function": event.function, "session_id": event.session_id, **event.details}
    app.events.append(tx, event.topic, f"user:{event.owner_id}", data)
    noun, _, outcome = event.topic.partition(".")
    if noun == "job" and outcome in app.metrics.jobs_ended:
        tx.after_commit(lambda: app.metrics.jobs_ended.update((outcome,)))
        if app.notices.wants("job_finished") and event.job_id is not None:
            error = event.details.get("error")
            job = FinishedJob(event.job_id, event.function, outcome, event.owner_id, event.session_id, error)
            tx.after_commit(lambda: app.notices.put("job_finished", job=job))
    elif event.topic == "ask.opened":
        tx.after_commit(lambda: app.asking.opened(event.owner_id, event.details))
    elif event.topic == "ask.resolved":
        tx.after_commit(lambda: app.asking.resolved(event.details["ask_id"], event.details["state"]))
