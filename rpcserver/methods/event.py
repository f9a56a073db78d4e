"""events.subscribe, events.unsubscribe and events.history."""

from functools import partial
from typing import Any

import orjson

from rpcserver.errors import TooManySubscriptions
from rpcserver.events import scopes
from rpcserver.events.subscriptions import Event, Subscription, matcher
from rpcserver.openrpc import examples
from rpcserver.rpc.calls import method
from rpcserver.rpc.scheduler import Paced
from rpcserver.schemas.event import HistoryParams, SubscribeParams, UnsubscribeParams
from rpcserver.schemas.results import EventPage, Subscribed
from rpcserver.services import Call
from store import new_id

LOOKED_AT = 2000  # rows of the log that one page of history may cost


@method(
    "events.subscribe",
    SubscribeParams,
    is_own=True,
    is_change=False,
    result=Subscribed,
    errors=("TOO_MANY_SUBSCRIPTIONS",),
    examples=examples.SUBSCRIBE,
)
async def subscribe(call: Call, params: SubscribeParams) -> dict[str, Any]:
    """Hear of what happens: `topics` are names with `*`. `since` gives, first, all that was missed.

    `recovered` is false when that is no longer kept: read anew what matters, then go on from the seq told here.
    `policy` says what becomes of events the client is too slow for: `close` ends the connection, `drop_oldest` and
    `latest` leave some out and say so with `$/gap`.
    """
    client, events = call.client, call.services.events
    _check_room(call)
    since = params.since
    # Asked first: listening begins a new record, and what was before it must not be taken for kept.
    recovered = since is not None and await events.can_resume(call.user_id, since.epoch, since.seq)
    await events.listen(call.user_id)
    _check_room(call)  # again: others may have come in between
    start = since.seq if since is not None and recovered else events.last_seq
    id = new_id("sub_")
    sees, catch_up = scopes.events_of(call.authority), partial(_catch_up, call)
    subscription = Subscription(
        id, call.user_id, params.topics, events.epoch, start, client, params.policy, sees, catch_up
    )
    if client.is_open:
        events.open(subscription)
        call.after_reply(partial(catch_up, subscription))
    if since is not None:
        call.services.metrics.resumes["recovered" if recovered else "not_recovered"] += 1
    answer: dict[str, Any] = {"subscription": id, "epoch": events.epoch, "seq": start}
    if since is not None:
        answer["recovered"] = recovered
    return answer


@method(
    "events.unsubscribe",
    UnsubscribeParams,
    is_own=True,
    is_change=False,
    result=bool,
    examples=examples.UNSUBSCRIBE,
)
def unsubscribe(call: Call, params: UnsubscribeParams) -> bool:
    """Hear no more of a subscription; true when there was one."""
    subscription = call.services.events.of(call.client).get(params.subscription)
    if subscription is None:
        return False
    call.services.events.close(subscription)
    return True


@method(
    "events.history",
    HistoryParams,
    is_change=False,
    result=EventPage,
    errors=("INVALID_CURSOR",),
    examples=examples.HISTORY,
)
async def history(call: Call, params: HistoryParams) -> dict[str, Any]:
    """Return what happened, the newest first, as far as it is kept: from the user's first subscription on.

    A page may hold fewer items than asked for and still have a `next_cursor`.
    """
    services, events = call.services, call.services.events
    await events.listen(call.user_id)
    scope = ("events", call.user_id, params.topics)
    position = services.cursors.decode(params.cursor, *scope)
    before = position[0] if position else None
    sees = scopes.events_of(call.authority)
    matches = matcher(params.topics)

    def wants(event: Event) -> bool:
        return matches(event.topic) and (sees is None or sees(event))

    found, onward = await services.store.read(
        lambda tx: events.history(tx, call.user_id, wants, before, params.limit, LOOKED_AT)
    )
    items = [
        {
            "topic": event.topic,
            "seq": event.seq,
            "epoch": events.epoch,
            "at": event.at,
            "data": orjson.Fragment(event.data),
        }
        for event in found
    ]
    return {"items": items, "next_cursor": services.cursors.encode([onward] if onward else None, *scope)}


def _catch_up(call: Call, subscription: Subscription) -> None:
    services, share = call.services, call.connection.share

    async def replay() -> None:
        await Paced(share, services.events.replay(subscription, services.settings.max_replay_events))

    services.spawn(replay())


def _check_room(call: Call) -> None:
    settings, events = call.settings, call.services.events
    for held, limit, whose in (
        (len(events.of(call.client)), settings.max_subscriptions, "This connection has"),
        (events.count(call.user_id), settings.max_subscriptions_per_user, "You have"),
    ):
        if held >= limit:
            raise TooManySubscriptions(whose, limit)


METHODS = (subscribe, unsubscribe, history)
