"""What the edge makes of what happens to jobs and in the world, inside the transactions that make it true."""

from typing import TYPE_CHECKING

from core import audience, rules
from core.calls import NOTICES, Notice
from jobs.model import JobEvent
from plugins.hooks import FinishedJob
from rpcserver.sessions import views
from store import Tx

if TYPE_CHECKING:
    from rpcserver.app import App

_TOLD = ("event", "set_id", "token_id", "attribute")  # of a notice: who did it is not


def hear(app: "App", tx: Tx, notice: Notice) -> None:
    """Take a notice of a core call, inside its transaction, and tell whoever may hear of it."""
    if notice.event == "rule_created" and not app.has_asking_rules and rules.any_asks(tx):
        # Known before the rule's maker has his answer: the next move asks it, and none has to be made twice.
        tx.after_commit(app.ask_rules)
    listeners = app.events.listeners
    if not listeners or notice.event not in NOTICES:
        return
    found = audience.of(tx, notice, listeners)
    data = {name: value for name in _TOLD if (value := getattr(notice, name)) is not None}
    for told in (*(f"set:{set_id}" for set_id in found.set_ids), *(f"user:{user_id}" for user_id in found.user_ids)):
        app.events.append(tx, "core.event", told, data)


def announce(app: "App", tx: Tx, event: JobEvent) -> None:
    """Tell a job's owner what happens to it."""
    data = {"job_id": event.job_id, "function": event.function, "session_id": event.session_id, **event.details}
    if not event.topic.startswith("ask."):
        data["brought_by"] = views.brought_by(event.authority)
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
