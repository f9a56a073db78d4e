"""What a narrow credential hears and sees: what it could ask for itself, and what it brought. Decision 19."""

from collections.abc import Callable
from functools import partial

import orjson

from jobs.authority import Authority
from jobs.rows import Sees
from rpcserver.events.catalog import NOTIFICATIONS
from rpcserver.events.subscriptions import Event

Hears = Callable[[Event], bool]
_READS = {told.name: told.reads for told in NOTIFICATIONS if told.is_event}


def sees(authority: Authority) -> Sees | None:
    """Return which jobs and schedules are there for a caller; None: all of its user."""
    return None if authority.is_unlimited else partial(sees_job, authority)


def sees_job(authority: Authority, function: str, brought_by: str) -> bool:
    """Tell whether a job or schedule is there for a caller; `brought_by`: as its row has it."""
    return authority.may(function) or any(f'"{id}"' in brought_by for id in authority.ids)


def brought_by(authority: str) -> list[str]:
    """Return the ids of the credentials that brought something, as its row has them."""
    return [item for item in orjson.loads(authority) if isinstance(item, str)]


def events_of(authority: Authority) -> Hears | None:
    """Return which events a credential hears; None: all that its user does."""
    return None if authority.is_unlimited else partial(_hears, authority)


def _hears(authority: Authority, event: Event) -> bool:
    if not (authority.may(event.topic) or any(map(authority.may, _READS.get(event.topic, ())))):
        return event.topic in _READS and not _READS[event.topic]
    if not event.topic.startswith(("job.", "schedule.")):
        return True
    data = orjson.loads(event.data)
    return authority.may(data["function"]) or bool(set(data.get("brought_by", ())) & set(authority.ids))
