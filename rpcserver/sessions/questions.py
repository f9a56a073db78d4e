"""Puts the questions of jobs to the people attached to a session: a request to each of their connections.

The row comes first (jobs.asks); this is only how it reaches people at once. The first valid answer wins, the others
are told `ask.resolved`. Who attaches later is asked what is still open. A question of no session is put to its person:
to all his connections that may answer, and to those that come. Source: protocol.md 5.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from jobs.asks import Ask, Asks
from jobs.errors import AskNotFound, BadAnswer, CallsSpent, CredentialEnded, NotAllowed
from jobs.model import JobEvent
from rpcserver.auth.credentials import Credentials
from rpcserver.rpc.calls import Client
from rpcserver.rpc.errors import describe
from rpcserver.rpc.jsonrpc import encode_notification
from rpcserver.rpc.requests import ClientDeclined, ClientGone
from store import Clock

log = structlog.get_logger("wire")

METHOD = "client.ask"
ANSWER = "ask.answer"
MAX_TRIES = 5

Attached = Callable[[str, str | None], Iterable[Client]]
Spawn = Callable[[Any], "asyncio.Task[None]"]


class Asking:
    """The questions under way, by ask and connection.

    Args:
        credentials: count the answers of limited ones.
        attached: the user's connections that have used a session; for None all of them.
    """

    def __init__(self, asks: Asks, credentials: Credentials, attached: Attached, spawn: Spawn, clock: Clock) -> None:
        self._asks = asks
        self._credentials = credentials
        self._attached = attached
        self._spawn = spawn
        self._clock = clock
        self._under_way: dict[str, dict[Client, asyncio.Task[None]]] = {}
        # Those of no session, by user and by id; after a restart their jobs open them anew.
        self._personal: dict[str, dict[str, dict[str, Any]]] = {}
        self._persons: dict[str, str] = {}

    def told(self, event: JobEvent) -> None:
        """Hear that a job asks a person, or that a question is over."""
        if event.topic == "ask.opened":
            self._opened(event.owner_id, event.details)
        elif event.topic == "ask.resolved":
            self._resolved(event.details["ask_id"], event.details["state"])

    def _opened(self, user_id: str, question: dict[str, Any]) -> None:
        """Ask everybody who is attached to the session, or the person himself."""
        if question["session_id"] is None:
            self._personal.setdefault(user_id, {})[question["ask_id"]] = question
            self._persons[question["ask_id"]] = user_id
        for connection in self._attached(user_id, question["session_id"]):
            self._put(connection, user_id, question)

    def _resolved(self, ask_id: str, state: str) -> None:
        """Take the question back from whoever has not answered, and tell them."""
        person = self._persons.pop(ask_id, None)
        if person is not None:
            self._personal[person].pop(ask_id, None)
            if not self._personal[person]:
                del self._personal[person]
        told = encode_notification("ask.resolved", {"ask_id": ask_id, "state": state})
        for connection, task in self._under_way.pop(ask_id, {}).items():
            task.cancel()
            connection.send_soon(told)

    def attach(self, connection: Client, user_id: str, open_asks: Iterable[Ask]) -> None:
        """Ask a connection that begins to use a session what is open there."""
        for ask in open_asks:
            self._put(connection, user_id, ask.shown(self._clock))

    def admit(self, connection: Client, user_id: str) -> None:
        """Ask a connection that has become a user's what he himself is asked."""
        for question in self._personal.get(user_id, {}).values():
            self._put(connection, user_id, question)

    def _put(self, connection: Client, user_id: str, question: dict[str, Any]) -> None:
        principal = connection.principal
        if principal is None or not principal.may(ANSWER):
            return
        asked = self._under_way.setdefault(question["ask_id"], {})
        if connection not in asked:
            asked[connection] = self._spawn(self._ask(connection, user_id, question))

    async def _ask(self, connection: Client, user_id: str, question: dict[str, Any]) -> None:
        ask_id = question["ask_id"]
        problem: str | None = None
        try:
            for _ in range(MAX_TRIES):
                wanted = question if problem is None else {**question, "problem": problem}
                # However long it takes: who waits for the answer ends the question, and we are told (`told`).
                answer = await connection.ask(METHOD, wanted)
                try:
                    await self._answer(connection, ask_id, user_id, answer)
                    return
                except BadAnswer as error:
                    problem = str(error)
        except (AskNotFound, ClientDeclined, ClientGone):
            return  # answered elsewhere, or this client cannot: the question stays open for the others
        except (NotAllowed, CredentialEnded, CallsSpent) as error:
            log.info("answer_refused", ask_id=ask_id, connection=connection.label, reason=str(error))
        finally:
            asked = self._under_way.get(ask_id, {})
            asked.pop(connection, None)
            if not asked:
                self._under_way.pop(ask_id, None)

    async def _answer(self, connection: Client, ask_id: str, user_id: str, answer: Any) -> None:
        """Take an answer as `ask.answer` does: what the connection's credential may is asked when it comes."""
        assert connection.principal is not None  # else it was not asked
        authority = connection.principal.authority
        authority.require(ANSWER)
        entries = await self._credentials.admit(authority, ANSWER) if authority.is_metered else ()
        outcome = "ok"
        try:
            await self._asks.answer(ask_id, user_id, answer)
        except (AskNotFound, BadAnswer) as error:
            outcome = describe(error).data["kind"]
            raise
        finally:
            self._credentials.note(entries, outcome)
