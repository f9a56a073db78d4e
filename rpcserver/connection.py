"""One WebSocket: frames in, frames out. The reader never awaits a handler; what a turn has to say is one write.

`websockets` keeps handshake, masking, keepalive, limits and close; this class takes messages where that package would
queue them, and bounds what waits to be sent. Source: protocol.md 2 and 4; speed.md (what follows 3 and 4).
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Event

from jobs.clock import Stoppable
from rpcserver.auth import Principal
from rpcserver.jsonrpc import Invalid, Response, encode_notification
from rpcserver.meters import Meter
from rpcserver.requests import Requests
from rpcserver.subscriptions import Subscription
from store import Clock, new_id

if TYPE_CHECKING:
    from rpcserver.calls import Call

log = structlog.get_logger("wire")

UNSUPPORTED = 1003
BAD_UTF_8 = 1007
SLOW_CONSUMER = 4409
PATIENCE = 6  # times the outbox age that a client with only lossy subscriptions may stall
EARLY_FLUSH_BYTES = 128 * 1024  # a turn that says more than this begins to say it at once


class Connection(ServerConnection):
    """A connected browser, script or agent.

    Args:
        receive: called with the bytes of every text message, in order.
        clock: what tells when it was opened.
        max_outbox_bytes, max_outbox_age_s: what a client that does not read may cost before it is cut off.
        max_reply_bytes: what may wait for such a client on top, because it asked for it itself.
    """

    def __init__(
        self,
        *args: Any,
        receive: Callable[["Connection", bytes], None],
        clock: Clock,
        max_outbox_bytes: int,
        max_outbox_age_s: float,
        max_reply_bytes: int,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.label = new_id("w_")
        self.opened_at = clock.now_ms()
        self._opened_s = time.monotonic()
        self.address = ""
        self.principal: Principal | None = None
        self.is_operator = False
        self.is_inside = False
        self.client: dict[str, Any] = {}
        self.calls: dict[Any, Call] = {}
        self.in_flight = 0
        self.in_line = 0
        self.last_method = ""
        self.meters: tuple[Meter, ...] = ()
        self.subscriptions: dict[str, Subscription] = {}
        self.sessions: set[str] = set()
        self.warned_of = 0
        self.authenticated = asyncio.Event()
        self.requests = Requests(self.send_soon)
        self.around: Stoppable | None = None  # nobody here waits for a client's call
        self._receive = receive
        self._max_outbox_bytes = max_outbox_bytes
        self._max_outbox_age_s = max_outbox_age_s
        self._early_bytes = min(EARLY_FLUSH_BYTES, max_outbox_bytes // 8)
        self._max_reply_bytes = max_reply_bytes
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._reply_bytes = 0
        self._is_flush_due = False
        self._stall: asyncio.TimerHandle | None = None
        self._stalled_at = 0.0
        self._parts = bytearray()  # of a message that has not come to its end
        self._is_binary = False
        self._early: list[Frame] | None = []

    def start(self) -> None:
        """Begin to take messages: those that came before the handshake was answered first."""
        early, self._early = self._early or [], None
        for frame in early:
            self._take(frame)

    def send_soon(self, message: bytes) -> None:
        """Send a text message with whatever else this turn of the loop has to say. On a closed connection: nothing."""
        if self.protocol.state is not OPEN:
            return
        self._outbox.append(message)
        self._outbox_bytes += len(message)
        if self.paused:
            # What the client asked for itself is bounded apart: two large answers on their way are no fault of it.
            if self._outbox_bytes - self._reply_bytes > self._max_outbox_bytes - 2 * self._early_bytes:
                self._cut_off("queue full")
        elif self._outbox_bytes > self._early_bytes:
            self._flush()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush)

    def reply(self, message: bytes | None) -> None:
        """Send the answer to a call; None stands for no answer."""
        if message is None:
            return
        if self.paused:
            self._reply_bytes += len(message)
            if self._reply_bytes > self._max_reply_bytes:
                self._cut_off("answers not read")
                return
        self.send_soon(message)

    @property
    def is_open(self) -> bool:
        """Messages can still be sent."""
        return self.protocol.state is OPEN

    def answered(self, response: Response | Invalid) -> None:
        """Take the client's answer to a request of ours."""
        self.requests.take(response)

    async def writable(self) -> None:
        """Wait until the client has read enough for more to be sent. Raises when the connection is gone."""
        await self.drain()

    @property
    def queue_bytes(self) -> int:
        """Bytes the client has not taken yet."""
        return self._outbox_bytes + self.transport.get_write_buffer_size()

    async def end(self, code: int, reason: str, *, reconnect: bool = True, retry_after_ms: int = 0) -> None:
        """Say why, then close."""
        closing = {"code": code, "reason": reason, "reconnect": reconnect, "retry_after_ms": retry_after_ms}
        self.send_soon(encode_notification("$/closing", closing))
        if not self.paused:
            self._flush()
        await self.close(code, reason)

    def process_event(self, event: Event) -> None:
        """Take data frames; leave the handshake and control frames to websockets."""
        if self.request is None or not isinstance(event, Frame) or event.opcode not in _DATA:
            super().process_event(event)
        elif self._early is not None:
            self._early.append(event)
        else:
            self._take(event)

    def data_received(self, data: bytes) -> None:
        """Handle what came, then write at once what it was answered with."""
        # Nothing said in here needs a turn of its own: an empty one costs as much as a small call.
        self._is_flush_due = True
        try:
            super().data_received(data)
        finally:
            self._flush()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read, and start its clock."""
        super().pause_writing()
        self.transport.pause_reading()
        self._stalled_at = time.monotonic()
        self._stall = self.loop.call_later(self._max_outbox_age_s, self._overdue)

    def resume_writing(self) -> None:
        """Go on: first what waits here, then what the subscriptions kept back."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
        self.transport.resume_reading()
        self._flush()
        for subscription in tuple(self.subscriptions.values()):
            subscription.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to be sent, and tell who waits for the client."""
        if self._stall is not None:
            self._stall.cancel()
        self._outbox.clear()
        self._parts.clear()
        super().connection_lost(exc)
        self.requests.fail()

    def _take(self, frame: Frame) -> None:
        if self.protocol.state is not OPEN:
            return
        if frame.opcode is not Opcode.CONT:
            self._is_binary = frame.opcode is Opcode.BINARY
        if frame.fin and not self._parts:
            self._take_message(bytes(frame.data))
            return
        # The protocol bounds the sum of the parts: more than max_size was refused before it came here.
        self._parts += frame.data
        if frame.fin:
            whole = bytes(self._parts)
            self._parts.clear()
            self._take_message(whole)

    def _take_message(self, message: bytes) -> None:
        if not message.isascii():
            # RFC 6455, 8.1: "that endpoint MUST Fail the WebSocket Connection". Taking frames ourselves, so must we.
            try:
                message.decode()
            except UnicodeDecodeError:
                self._fail(*((UNSUPPORTED, "JSON in UTF-8 only") if self._is_binary else (BAD_UTF_8, "not UTF-8")))
                return
        # Some clients send all they have as binary: what is JSON in it is taken as the text it is.
        if self._is_binary and message.lstrip()[:1] not in (b"{", b"["):
            self._fail(UNSUPPORTED, "JSON in UTF-8 only")
        else:
            self._receive(self, message)

    def _fail(self, code: int, reason: str) -> None:
        if self.protocol.state is OPEN:
            self.protocol.fail(code, reason)
            self.send_data()

    def _flush(self) -> None:
        self._is_flush_due = False
        if self.paused or not self._outbox:
            return
        messages, self._outbox, self._outbox_bytes, self._reply_bytes = self._outbox, [], 0, 0
        if self.protocol.state is not OPEN:
            return
        for message in messages:
            self.protocol.send_text(message)
        self.transport.write(b"".join(self.protocol.data_to_send()))

    def _overdue(self) -> None:
        stalled_s = time.monotonic() - self._stalled_at
        is_patient = bool(self.subscriptions) and all(one.is_lossy for one in self.subscriptions.values())
        if is_patient and not self._outbox and stalled_s < PATIENCE * self._max_outbox_age_s:
            # What it misses is dropped and told: it may take its time, but not for ever.
            self._stall = self.loop.call_later(self._max_outbox_age_s, self._overdue)
        else:
            self._cut_off("not reading")

    def _cut_off(self, why: str) -> None:
        # A close frame would wait behind everything the client does not read: the connection goes at once.
        log.warning(
            "slow_consumer",
            connection=self.label,
            user_id=self.principal.user.id if self.principal else None,
            client=self.client.get("client"),
            code=SLOW_CONSUMER,
            reason=why,
            stalled_s=round(time.monotonic() - self._stalled_at, 3),
            age_s=round(time.monotonic() - self._opened_s, 3),
            queued_messages=len(self._outbox),
            queued_bytes=self.queue_bytes,
            last_method=self.last_method,
        )
        self._outbox.clear()
        self._outbox_bytes = self._reply_bytes = 0
        self.transport.abort()


_DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))
