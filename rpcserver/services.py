"""What the rooms of a running server share; the composition root makes it, and handlers get it with their call."""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobs.engine import JobRunner
from jobs.remotes.sources import Outside
from plugins.manager import Bus
from rpcserver.auth.authenticator import Secret
from rpcserver.auth.credentials import Credentials
from rpcserver.auth.entrance import Entrance
from rpcserver.auth.withdrawal import Withdrawal
from rpcserver.events.log import Events
from rpcserver.events.publish import Publisher
from rpcserver.openrpc.document import Description
from rpcserver.playbooks.adding import Adding
from rpcserver.playbooks.keyvalue import Stores
from rpcserver.playbooks.player import Player
from rpcserver.playbooks.rows import Scanner
from rpcserver.playbooks.sources import Sources
from rpcserver.rpc import calls
from rpcserver.rpc.calls import Connection, Method, Reply
from rpcserver.rpc.dispatcher import Dispatcher
from rpcserver.rpc.jsonrpc import Request
from rpcserver.rpc.pagination import Cursors
from rpcserver.rpc.registry import ConnectionRegistry
from rpcserver.rpc.scheduler import Scheduler
from rpcserver.sessions.ends import Ends
from rpcserver.sessions.navigation import Navigation
from rpcserver.sessions.questions import Asking
from rpcserver.sessions.rows import Session, Sessions
from rpcserver.settings import Settings
from rpcserver.telemetry.metrics import Metrics
from store import Clock, Pools, Store


@dataclass(frozen=True, slots=True)
class Services:
    """Each part is made once, in `rpcserver.app`; rooms below `methods` get only what they need of it."""

    settings: Settings
    store: Store
    pools: Pools
    metrics: Metrics
    spawn: Callable[[Any], asyncio.Task[None]]  # starts a task that ends with the server
    # rpc
    scheduler: Scheduler
    connections: ConnectionRegistry
    dispatcher: Dispatcher
    cursors: Cursors
    # auth
    credentials: Credentials
    entrance: Entrance
    withdrawal: Withdrawal
    # jobs and plugins
    runner: JobRunner
    outside: Outside
    bus: Bus
    # events and sessions
    events: Events
    publisher: Publisher
    sessions: Sessions
    asking: Asking
    navigation: Navigation
    ends: Ends
    # playbooks
    sources: Sources
    stores: Stores
    scanner: Scanner
    player: Player
    adding: Adding
    # openrpc
    description: Description

    started: float = field(default_factory=time.monotonic)
    operator_secret: Secret = field(default_factory=lambda: Secret("rpcop_" + secrets.token_urlsafe(32)))

    @property
    def clock(self) -> Clock:
        """What all of it tells the time by."""
        return self.store.clock


class Call(calls.Call):
    """A call as its handler gets it."""

    __slots__ = ("services",)

    def __init__(
        self, services: Services, connection: Connection, method: Method, request: Request, reply: Reply
    ) -> None:
        super().__init__(services.settings, services.runner, connection, method, request, reply)
        self.services = services

    async def session(self, session_id: str | None) -> Session:
        """Return the caller's session; None: the default one, made on demand. Raises SessionNotFound."""
        return await self.services.navigation.the_session(self, session_id)
