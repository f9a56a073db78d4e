"""events.subscribe and events.unsubscribe."""

from typing import Any

from rpcserver import examples
from rpcserver.dispatch import Call, method
from rpcserver.errors import TOO_MANY_SUBSCRIPTIONS, RpcError
from rpcserver.events import Subscription
from rpcserver.models import SubscribeParams, UnsubscribeParams
from rpcserver.results import Subscribed
from store import new_id


@method(
    "events.subscribe",
    SubscribeParams,
    result=Subscribed,
    errors=("TOO_MANY_SUBSCRIPTIONS",),
    examples=examples.SUBSCRIBE,
)
async def subscribe(call: Call, params: SubscribeParams) -> dict[str, Any]:
    """Hear of what happens: `topics` are names with `*`. `since` gives, first, all that was missed.

    `recovered` is false when that is no longer kept: read anew what matters, then go on from the seq told here.
    """
    app, connection = call.app, call.connection
    limit = app.settings.max_subscriptions
    if len(connection.subscriptions) >= limit:
        message = f"This connection has {limit} subscriptions, the most allowed: unsubscribe one first."
        raise RpcError(TOO_MANY_SUBSCRIPTIONS, "TOO_MANY_SUBSCRIPTIONS", message, limit=limit)
    events = app.events
    start = events.last_seq
    subscription = Subscription(new_id("sub_"), call.user_id, params.topics, events.epoch, start, connection.send_soon)
    # Open before looking back: what is committed meanwhile is held, and sent after what was missed.
    events.open(subscription)
    connection.subscriptions[subscription.id] = subscription
    missed = None
    since = params.since
    if since is not None and since.epoch == events.epoch:
        position = since.seq
        missed = await app.store.read(lambda tx: events.missed(tx, subscription, position))
        if missed is not None:
            subscription.seq = start = position
    if since is not None:
        app.metrics.resumes["not_recovered" if missed is None else "recovered"] += 1
    call.after_reply(lambda: subscription.release(missed or []))
    answer: dict[str, Any] = {"subscription": subscription.id, "epoch": events.epoch, "seq": start}
    if since is not None:
        answer["recovered"] = missed is not None
    return answer


@method("events.unsubscribe", UnsubscribeParams, result=bool, examples=examples.UNSUBSCRIBE)
def unsubscribe(call: Call, params: UnsubscribeParams) -> bool:
    """Hear no more of a subscription; true when there was one."""
    subscription = call.connection.subscriptions.pop(params.subscription, None)
    if subscription is None:
        return False
    call.app.events.close(subscription)
    return True


METHODS = (subscribe, unsubscribe)
