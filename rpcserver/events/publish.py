"""Events of what happens to jobs and in the world, added inside the transactions that make it true."""

from collections.abc import Callable

from core import audience, rules
from core.calls import NOTICES, Notice
from jobs.model import JobEvent
from plugins.hooks import FinishedJob
from plugins.manager import Notices
from rpcserver.events.log import Events
from rpcserver.events.scopes import brought_by
from rpcserver.telemetry.metrics import Metrics
from store import Tx

_TOLD = ("event", "set_id", "token_id", "attribute")  # of a notice: who did it is not


class Publisher:
    """Tells people, plugins and the metrics what jobs do.

    Args:
        ask: hears, after its commit, that a job asks a person, and that a question is over.

    Attributes:
        has_asking_rules: whether any rule of a place asks a script or remote, so that moves have to.
    """

    def __init__(self, events: Events, notices: Notices, metrics: Metrics, ask: Callable[[JobEvent], None]) -> None:
        self._events = events
        self._notices = notices
        self._metrics = metrics
        self._ask = ask
        self.has_asking_rules = False

    def hear(self, tx: Tx, notice: Notice) -> None:
        """Take a notice of a core call, inside its transaction, and tell whoever may hear of it."""
        if notice.event == "rule_created" and not self.has_asking_rules and rules.any_asks(tx):
            # Known before the rule's maker has the answer: the next move asks it, and none has to be made twice.
            tx.after_commit(self.ask_rules)
        listeners = self._events.listeners
        if not listeners or notice.event not in NOTICES:
            return
        found = audience.of(tx, notice, listeners)
        data = {name: value for name in _TOLD if (value := getattr(notice, name)) is not None}
        for told in (*(f"set:{id}" for id in found.set_ids), *(f"user:{id}" for id in found.user_ids)):
            self._events.append(tx, "core.event", told, data)

    def ask_rules(self) -> None:
        """Have scripts and remotes of rules asked before every move, from now on."""
        self.has_asking_rules = True

    def announce(self, tx: Tx, event: JobEvent) -> None:
        """Tell a job's owner what happens to it."""
        data = {"job_id": event.job_id, "function": event.function, "session_id": event.session_id, **event.details}
        noun, _, outcome = event.topic.partition(".")
        if noun == "ask":
            tx.after_commit(lambda: self._ask(event))
        else:
            data["brought_by"] = brought_by(event.authority)
        self._events.append(tx, event.topic, f"user:{event.owner_id}", data)
        if noun == "job" and outcome in self._metrics.jobs_ended:
            tx.after_commit(lambda: self._metrics.jobs_ended.update((outcome,)))
            if self._notices.wants("job_finished") and event.job_id is not None:
                error = event.details.get("error")
                job = FinishedJob(event.job_id, event.function, outcome, event.owner_id, event.session_id, error)
                tx.after_commit(lambda: self._notices.put("job_finished", job=job))
