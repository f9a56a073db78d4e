"""Puts the questions of jobs to the people attached to a session: a request to each of their connections.

The row comes first (jobs.asks); this is only how it reaches people at once. The first valid answer wins, the others
are told `ask.resolved`. Who attaches later is asked what is still open. Source: protocol.md 5.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from jobs.asks import Ask, Asks
from jobs.errors import AskNotFound, BadAnswer
from rpcserver.connection import Connection
from rpcserver.jsonrpc import encode_notification
from rpcserver.refusals import ClientDeclined, ClientGone, ClientSilent
from store import now_ms

METHOD = "client.ask"
NEVER_S = 7 * 24 * 3600.0
MAX_TRIES = 5

Attached = Callable[[str, str], Iterable[Connection]]
Spawn = Callable[[Any], "asyncio.Task[None]"]


class Asking:
    """The questions under way, by ask and connection.

    Args:
        attached: the user's connections that have used a session.
    """

    def __init__(self, asks: Asks, attached: Attached, spawn: Spawn) -> None:
        self._asks = asks
        self._attached = attached
        self._spawn = spawn
        self._under_way: dict[str, dict[Connection, asyncio.Task[None]]] = {}

    def opened(self, user_id: str, question: dict[str, Any]) -> None:
        """Ask everybody who is attached to the session."""
        for connection in self._attached(user_id, question["session_id"] or ""):
            self._put(connection, user_id, question)

    def resolved(self, ask_id: str, state: str) -> None:
        """Take the question back from whoever has not answered, and tell them."""
        told = encode_notification("ask.resolved", {"ask_id": ask_id, "state": state})
        for connection, task in self._under_way.pop(ask_id, {}).items():
            task.cancel()
            connection.send_soon(told)

    def attach(self, connection: Connection, user_id: str, open_asks: Iterable[Ask]) -> None:
        """Ask a connection that begins to use a session what is open there."""
        for ask in open_asks:
            self._put(connection, user_id, ask.shown())

    def _put(self, connection: Connection, user_id: str, question: dict[str, Any]) -> None:
        asked = self._under_way.setdefault(question["ask_id"], {})
        if connection not in asked:
            asked[connection] = self._spawn(self._ask(connection, user_id, question))

    async def _ask(self, connection: Connection, user_id: str, question: dict[str, Any]) -> None:
        ask_id = question["ask_id"]
        expires_at = question["expires_at"]
        problem: str | None = None
        try:
            for _ in range(MAX_TRIES):
                left_s = NEVER_S if expires_at is None else max(0.01, (expires_at - now_ms()) / 1000)
                wanted = question if problem is None else {**question, "problem": problem}
                answer = await connection.requests.ask(METHOD, wanted, left_s)
                try:
                    await self._asks.answer(ask_id, user_id, answer)
                    return
                except BadAnswer as error:
                    problem = str(error)
        except (AskNotFound, ClientDeclined, ClientGone, ClientSilent):
            return  # answered elsewhere, or this client cannot: the question stays open for the others
        finally:
            asked = self._under_way.get(ask_id, {})
            asked.pop(connection, None)
            if not asked:
                self._under_way.pop(ask_id, None)
