"""Params of the methods about events."""

from typing import Annotated, Literal

from pydantic import Field

from rpcserver.schemas.session import Cursor, Id, Limit, Params

Topics = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(min_length=1, max_length=50)]


class Since(Params):
    """The position of an event: where a client stopped to hear."""

    epoch: Id
    seq: Annotated[int, Field(ge=0)]


class SubscribeParams(Params):
    """events.subscribe."""

    topics: Topics
    since: Since | None = None
    policy: Literal["close", "drop_oldest", "latest"] = "close"


class UnsubscribeParams(Params):
    """events.unsubscribe."""

    subscription: Id


class HistoryParams(Params):
    """events.history."""

    topics: Topics = ["*"]
    limit: Limit = 50
    cursor: Cursor = None
