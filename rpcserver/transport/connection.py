"""One WebSocket: frames in, frames out. The reader never awaits a handler; what a turn has to say is one write.

`websockets` keeps handshake, masking, limits and close; this class takes messages where that package would queue them,
works on them in turns of its user's share, and bounds what waits to be worked on and to be sent.
Source: protocol.md 2 and 4; speed.md (what follows 3 and 4).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import CONNECTING, OPEN

from jobs.authority import End
from jobs.clock import Stoppable
from jobs.errors import CredentialEnded
from rpcserver.auth.authenticator import Principal
from rpcserver.errors import RpcError
from rpcserver.events.subscriptions import Subscription
from rpcserver.ratelimit import Meter
from rpcserver.rpc.calls import Call
from rpcserver.rpc.jsonrpc import Invalid, Response, encode_notification
from rpcserver.rpc.registry import Pool
from rpcserver.rpc.requests import Requests
from rpcserver.rpc.scheduler import SLICE_S, Share, now_s
from store import Clock, new_id

MAX_FRAMES = 32  # of a portion
MAX_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"


class Cutter:
    """Follows the bytes of one connection from its first: a request's head, then frames."""

    __slots__ = ("_begun", "_is_in_head", "_left")

    def __init__(self) -> None:
        self._is_in_head = True
        self._begun = b""  # of what is not whole yet: the end of the head, or the beginning of a frame
        self._left = 0  # bytes of the last frame that have not come

    def portion(self, data: bytes) -> int:
        """Return how many of the next bytes make up a portion: a request's head, or up to so many frames."""
        if self._is_in_head:
            return self._head(data)
        begun, size = self._begun, len(data)
        # Nearly always one frame, whole.
        if not begun and not self._left and 6 <= size < MAX_BYTES:
            short = data[1] & 0x7F
            if size == 6 + short or (short == 126 and size == 8 + (data[2] << 8 | data[3])):
                return size
        known = begun + data if begun else data
        size, frames, end = len(known), 0, self._left
        while end < size and end < MAX_BYTES and frames < MAX_FRAMES:
            whole = _length(known, end)
            if whole is None:
                self._begun, self._left = known[end:], 0
                return len(data)
            end += whole
            frames += 1
        self._begun = b""
        portion = min(end, size)
        if portion > MAX_BYTES:
            portion = MAX_BYTES
        self._left = end - portion
        return portion - len(begun)

    def _head(self, data: bytes) -> int:
        known = self._begun + data
        at = known.find(_HEAD_END)
        if at < 0:
            self._begun = known[-3:]
            return len(data)
        portion = at + len(_HEAD_END) - len(self._begun)
        self._is_in_head, self._begun = False, b""
        return portion


def _length(known: bytes, at: int) -> int | None:
    """Return the length of the frame that begins at a place, None when too little of it is known."""
    if len(known) < at + 2:
        return None
    short = known[at + 1] & 0x7F
    masked = 4 if known[at + 1] & 0x80 else 0
    if short < 126:
        return 2 + masked + short
    wide = 2 if short == 126 else 8
    if len(known) < at + 2 + wide:
        return None
    return 2 + wide + masked + int.from_bytes(known[at + 2 : at + 2 + wide], "big")


log = structlog.get_logger("wire")

LOGGED_OUT = 1000
UNSUPPORTED = 1003
BAD_UTF_8 = 1007
POLICY = 1008
SILENT = 1011
OVERLOAD = 1013
EXPIRED = 4401
SLOW_CONSUMER = 4409
TOO_MUCH = 4429
REVOKED = 4501
FROZEN = 4503
SHUT: dict[End | None, tuple[int, str]] = {
    "revoked": (REVOKED, "log in again: the credential was revoked"),
    "frozen": (FROZEN, "the account is frozen"),
}
PATIENCE = 6  # times the outbox age that a client with only lossy subscriptions may stall
EARLY_FLUSH_BYTES = 128 * 1024  # a turn that says more than this begins to say it at once
LARGE_BYTES = 256 * 1024
READ_BYTES = 4096  # of what waits, looked at together
CLOGGED_BYTES = 64 * 1024  # of answers
LINGER_S = 5.0  # for a client to take the last words, and go
LINGER_BYTES = 1024 * 1024  # it may say meanwhile
HEAD_BYTES = 16 * 1024  # of an HTTP request
STRANGER_BYTES = 256 * 1024  # that a client may say before it has said who it is
STRANGER_FRAMES = 1000
_DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may cost.

    Args:
        outbox_bytes, outbox_age_s: for a client that does not read, before it is cut off.
        reply_bytes: what may wait for such a client on top, because it asked for it itself.
        heartbeat_s: between two pings; who says nothing for as long after one is gone.
    """

    outbox_bytes: int
    outbox_age_s: float
    reply_bytes: int
    heartbeat_s: float


class Connection(ServerConnection):
    """A connected browser, script or agent.

    Args:
        receive: called with the bytes of every message, in order; returns what is left to do of it, step by step.
        admit: makes it a user's.
        spawn: starts a task that ends with the server.
        wall: what tells when it was opened.
        share: in whose turns it works; `incoming` and `outgoing` are what it may hold together with others.
    """

    cost_s = 0.0
    owed_s = 0.0

    def __init__(
        self,
        *args: Any,
        receive: Callable[["Connection", bytes], Iterator[None] | None],
        admit: Callable[["Connection", Principal], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        wall: Clock,
        bounds: Bounds,
        share: Share,
        incoming: Pool["Connection"],
        outgoing: Pool["Connection"],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.label = new_id("w_")
        self.opened_at = wall.now_ms()
        self._opened_s = time.monotonic()
        self.peer = ""  # the address at the other end of the socket, a proxy's maybe
        self.address = ""  # what it is counted as
        self.principal: Principal | None = None
        self.is_operator = False
        self.refusal: RpcError | CredentialEnded | None = None  # why a page that was let in is shown out
        self.is_adopted = False  # its socket is the loop's
        self.about: dict[str, Any] = {}  # what its client says it is
        self.calls: dict[Any, Call] = {}
        self.in_flight = 0
        self.in_line = 0
        self.last_method = ""
        self.meters: tuple[Meter, ...] = ()
        self.subscriptions: Mapping[str, Subscription] = {}
        self.sessions: set[str] = set()
        self.warned_of = 0
        self.authenticated = asyncio.Event()
        self.requests = Requests(self.send_soon)
        self.around: Stoppable | None = None  # nobody here waits for a client's call
        self.share = share
        self._receive = receive
        self._admit = admit
        self._spawn = spawn
        self._is_shut = False
        self._bounds = bounds
        self._incoming, self._outgoing = incoming, outgoing
        # What came: bytes, then frames, then the message that is worked on.
        self._unread = bytearray()
        self._cutter = Cutter()
        self._frames: deque[Frame] = deque()
        self._parts = bytearray()  # of a message that has not come to its end
        self._is_binary = False
        self._message: Iterator[None] | None = None
        self._is_started = False
        self._is_in_line = False
        self._is_over = self._is_lost = False
        self._is_watched = True  # nobody knows who it is, or it should say nothing more
        self._bytes_said = self._frames_said = 0
        self._first = b""
        # What goes out.
        self._early_bytes = min(EARLY_FLUSH_BYTES, bounds.outbox_bytes // 8)
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._reply_bytes = self._owed_bytes = self._held_back = 0
        self._is_flush_due = self._is_sending = False
        self._stall: asyncio.TimerHandle | None = None
        self._stalled_at = 0.0
        self._left_to_take = 0
        self._beat: asyncio.TimerHandle | None = None
        self._is_pinged = False
        self._linger: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to take messages: those that came before the handshake was answered first."""
        self._is_started = True
        self._beat = self.loop.call_later(self._bounds.heartbeat_s, self._ping)
        if self._is_behind:
            self._line_up()

    def belong(self, share: Share, incoming: Pool["Connection"], outgoing: Pool["Connection"]) -> None:
        """Be counted, from now on, with others: who it is has become known."""
        for before, after in ((self._incoming, incoming), (self._outgoing, outgoing)):
            after.hold(self, before.held(self))
            before.hold(self, 0)
        self.share, self._incoming, self._outgoing = share, incoming, outgoing
        self._is_watched = self._is_over or not self.is_known

    @property
    def is_known(self) -> bool:
        """It is clear who is connected."""
        return self.principal is not None or self.is_operator

    @property
    def client(self) -> "Connection":
        """Itself: a client's."""
        return self

    async def become(self, principal: Principal) -> None:
        """Become a user's. Raises TooManyConnections, or CredentialEnded when it has ended meanwhile."""
        await self._admit(self, principal)

    def end_soon(self, code: int, reason: str, *, reconnect: bool) -> None:
        """Say why, and close."""
        log.info("connection_ended", connection=self.label, code=code, reason=reason)
        self._spawn(self.end(code, reason, reconnect=reconnect))

    def log_out(self) -> None:
        """Close at the user's wish."""
        self.end_soon(LOGGED_OUT, "logged out", reconnect=False)

    def shut(self, end: End) -> None:
        """Close, once, for the credential was revoked or its user frozen."""
        if not self._is_shut:
            self._is_shut = True
            self.end_soon(*SHUT[end], reconnect=False)

    # What comes in

    def data_received(self, data: bytes) -> None:
        """Work on what came, as far as the share allows it now; the rest when it is its turn."""
        self._is_pinged = False
        if self._is_watched and not self._is_welcome(data):
            return
        began = now_s()
        if self._is_behind or self.share.is_spent(began):
            self._unread += data
            self._hold()
            if not self._is_in_line and not self._is_clogged:
                self._line_up()
            return
        is_left = self._work(data, began + SLICE_S)
        self.share.spend(now_s() - began)
        if is_left:
            self._line_up()
        if is_left or self._parts or self.protocol.reader.buffer or self._incoming.held(self):
            self._hold()

    def go(self, until: float) -> bool:
        """Work on what waits until the clock says so; tell whether something is left that can be worked on."""
        began, share = now_s(), self.share
        is_left = not self._is_clogged and self._work(b"", until)
        share.spend(now_s() - began)
        self._hold()
        if is_left and share is self.share:
            return True
        self._is_in_line = False
        if is_left:
            self._line_up()  # with those it belongs to now
        elif not self.paused:
            self._read_on()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was to be sent, and tell who waits for the client."""
        for timer in (self._stall, self._beat, self._linger):
            if timer is not None:
                timer.cancel()
        self._outbox.clear()
        self._is_lost = True
        self._outgoing.hold(self, 0)
        frames, message = self._frames, self._message
        self._drop()
        if self.protocol.close_rcvd_then_sent:  # what came before the client's close is worked on
            self._frames, self._message = frames, message
        super().connection_lost(exc)
        self.requests.fail()

    @property
    def _is_behind(self) -> bool:
        return bool(self._unread or self._message is not None or (self._frames and self._is_started))

    @property
    def _is_clogged(self) -> bool:
        """Answers wait for the client to read: what it asks for meanwhile waits, too."""
        return self.paused and self._reply_bytes > CLOGGED_BYTES

    def _is_welcome(self, data: bytes) -> bool:
        """Count what a client says that nobody knows, or that should say nothing more; end what is too much."""
        if self._is_over:
            self._bytes_said += len(data)
            if self._bytes_said > LINGER_BYTES:
                self.transport.abort()
            return False
        if not self._bytes_said:
            self._first = data[:16]
        self._bytes_said += len(data)
        if self.request is None and self._bytes_said > HEAD_BYTES:
            self._refuse_request(431, "The request's headers are too long.")
            return False
        if self._bytes_said > STRANGER_BYTES:
            self.fail(POLICY, "too much was said before authentication")
            return False
        return True

    def _line_up(self) -> None:
        self._is_in_line = True
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self.share.line_up(self)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _work(self, data: bytes, until: float) -> bool:
        """Work until the clock says so; tell whether something is left that can be worked on."""
        # Nothing said in here needs a turn of its own: an empty one costs as much as a small call.
        self._is_flush_due = True
        try:
            if data:
                portion = self._cutter.portion(data)
                self._unread += data[portion:]
                self._feed(data[:portion])
            while True:
                if self._message is not None:
                    if next(self._message, self) is self:
                        self._message = None
                elif self._frames and self._is_started:
                    self._take(self._frames.popleft())
                elif self._unread:
                    known = bytes(self._unread[:READ_BYTES])
                    portion = self._cutter.portion(known)
                    del self._unread[:portion]
                    self._feed(known[:portion])
                if not (self._frames and self._is_started or self._unread or self._message is not None):
                    return False
                if now_s() >= until:
                    return self._is_behind and not self._is_clogged
        finally:
            self._flush_in_turn()

    def _feed(self, data: bytes) -> None:
        """Have the protocol read a portion, and write what it answers by itself, as pongs.

        The handshake is left to websockets. Of other frames than data, what the protocol answers is all there is to do.
        """
        protocol = self.protocol
        is_request = self.request is None
        protocol.receive_data(data)
        events = protocol.events_received()
        if is_request and protocol.handshake_exc is not None:
            self._refuse_unread_request()
        if protocol.writes:
            self._write_out()
        for event in events:
            if isinstance(event, Frame):
                if event.opcode in _DATA and (protocol.state is OPEN or protocol.close_rcvd_then_sent):
                    self._frames.append(event)
            else:
                self.process_event(event)
        if self._is_watched:
            self._frames_said += len(events)
            if self._frames_said > STRANGER_FRAMES:
                self.fail(POLICY, "too much was said before authentication")
        if protocol.state is not OPEN and protocol.close_expected():
            self._end_in_a_while()

    def _write_out(self) -> None:
        writes = self.protocol.data_to_send()
        if self.transport.is_closing():
            return
        self.transport.write(b"".join(writes))
        if writes and not writes[-1]:  # the end, as the protocol says it
            with suppress(OSError):  # the client is gone already
                if self.transport.can_write_eof():
                    self.transport.write_eof()
                    return
            self.transport.close()

    def _take(self, frame: Frame) -> None:
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
                self.fail(*((UNSUPPORTED, "JSON in UTF-8 only") if self._is_binary else (BAD_UTF_8, "not UTF-8")))
                return
        # Some clients send all they have as binary: what is JSON in it is taken as the text it is.
        if self._is_binary and message.lstrip()[:1] not in (b"{", b"["):
            self.fail(UNSUPPORTED, "JSON in UTF-8 only")
        else:
            self._message = self._receive(self, message)

    def _hold(self) -> None:
        """Count the bytes that are held of what came; when it and its others hold too much, the largest is let go."""
        held = len(self._unread) + len(self._parts) + len(self.protocol.reader.buffer)
        largest = self._incoming.hold(self, held)
        if largest is None:
            return
        if self.is_known:
            largest.fail(TOO_MUCH, "your connections hold too many bytes of unfinished messages")
        else:
            largest.fail(OVERLOAD, "too many bytes of strangers' unfinished messages: try again later")

    # How it ends

    def fail(self, code: int, reason: str) -> None:
        """End the connection for what the client did: nothing more of what it sent is looked at."""
        if self._is_over:
            return
        self._flush()
        self.protocol.fail(code, reason)
        self._write_out()
        self._end_in_a_while()
        self._drop()

    async def end(self, code: int, reason: str, *, reconnect: bool = True, retry_after_ms: int = 0) -> None:
        """Say why, then close."""
        closing = {"code": code, "reason": reason, "reconnect": reconnect, "retry_after_ms": retry_after_ms}
        self.send_soon(encode_notification("$/closing", closing))
        if not self.paused:
            self._flush()
        await self.close(code, reason)

    def _end_in_a_while(self) -> None:
        # A client that does not go by itself would be kept for ever.
        if self._linger is None:
            self._is_over = self._is_watched = True
            self._bytes_said = 0
            self._unread.clear()
            self._linger = self.loop.call_later(LINGER_S, self.transport.abort)
            self._read_on()

    def _drop(self) -> None:
        self._unread.clear()
        self._parts.clear()
        self._frames, self._message = deque(), None
        self._incoming.hold(self, 0)

    def _refuse_unread_request(self) -> None:
        """Answer a request that is no WebSocket's and no page's: else whoever sent it hears nothing."""
        if self.protocol.state is CONNECTING and not any(self.protocol.writes):
            word = self._first.partition(b" ")[0]
            if word.isalpha() and word.isupper() and word not in (b"GET", b"HEAD"):
                self._refuse_request(
                    405, "Pages are read with GET; calls are made over a WebSocket: see `rpcserver call`."
                )
            else:
                self._refuse_request(400, "This is no request that HTTP/1.1 knows for a WebSocket or a page.")

    def _refuse_request(self, status: int, text: str) -> None:
        response = self.protocol.reject(status, text + "\n")
        if status == 405:
            response.headers["Allow"] = "GET, HEAD"
        log.info("connection_refused", status=status, reason=text)
        self.transport.write(response.serialize())
        if not self.protocol.eof_sent:
            self.protocol.fail(POLICY)
        self._write_out()
        self._end_in_a_while()

    # What goes out

    def send_soon(self, message: bytes) -> None:
        """Send a text message with whatever else this turn of the loop has to say. On a closed connection: nothing."""
        if self.protocol.state is not OPEN or self._is_over:
            return
        self._outbox.append(message)
        self._outbox_bytes += len(message)
        if self.paused:
            self._hold_out()
            self.owe(0)
        elif self._is_sending:
            self._hold_out()
        elif self._outbox_bytes > self._early_bytes:
            self._flush_in_turn()
        elif not self._is_flush_due:
            self._is_flush_due = True
            self.loop.call_soon(self._flush_in_turn)

    def reply(self, message: bytes | None) -> None:
        """Send the answer to a call; None stands for no answer."""
        if message is None:
            return
        if self.paused:
            self._reply_bytes += len(message)
            if self._reply_bytes > self._bounds.reply_bytes:
                self.cut_off("answers not read")
                return
        self.send_soon(message)

    @property
    def is_open(self) -> bool:
        """Messages can still be sent."""
        return self.protocol.state is OPEN and not self._is_over

    def hold_back(self, size: int) -> None:
        """Count bytes that will be sent later; a negative number: that are sent now."""
        self._held_back += size
        self._hold_out()

    def answered(self, response: Response | Invalid) -> None:
        """Take the client's answer to a request of ours."""
        self.requests.take(response)

    async def ask(self, method: str, params: dict[str, Any]) -> Any:
        """Send a request and return what the client answers. Raises ClientDeclined or ClientGone."""
        return await self.requests.ask(method, params)

    def owe(self, size: int) -> None:
        """Count what stays in the log until the client reads on; who does not take what it is owed is cut off."""
        self._owed_bytes += size
        # What the client asked for itself is bounded apart: two large answers on their way are no fault of it.
        waiting = self._outbox_bytes - self._reply_bytes + self._owed_bytes
        if waiting > self._bounds.outbox_bytes - 2 * self._early_bytes and not self._is_over:
            self.cut_off("queue full")

    async def writable(self) -> None:
        """Wait until the client has read enough for more to be sent. Raises when the connection is gone."""
        await self.drain()

    @property
    def queue_bytes(self) -> int:
        """Bytes the client has not taken yet."""
        return self._outbox_bytes + self.transport.get_write_buffer_size()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read, and start its clock."""
        super().pause_writing()
        if not self.transport.is_closing():
            self.transport.pause_reading()
        self._stalled_at = time.monotonic()
        self._left_to_take = self.transport.get_write_buffer_size()
        self._stall = self.loop.call_later(self._bounds.outbox_age_s / 4, self._look_at_stall)
        self._hold_out()

    def resume_writing(self) -> None:
        """Go on: first what waits here, then what the subscriptions kept back, then what came meanwhile."""
        super().resume_writing()
        self._is_pinged = False
        self._owed_bytes = 0
        if self._stall is not None:
            self._stall.cancel()
        self._hold_out()
        self._flush_in_turn()
        for subscription in tuple(self.subscriptions.values()):
            subscription.go_on()
        if self._is_behind and not self._is_in_line:
            self._line_up()
        elif not self._is_behind and not self.paused:
            self._read_on()

    def _flush_in_turn(self) -> None:
        """Send what waits; much of it in the share's turn, as handing it to the socket takes milliseconds."""
        if self.paused or self._outbox_bytes <= LARGE_BYTES:
            self._flush()
            return
        self._is_flush_due = False
        if not self._is_sending:
            self._is_sending = True
            self.share.line_up(_Sending(self))
            self._hold_out()

    def send_large(self) -> None:
        """Send what waited for a turn."""
        self._is_sending = False
        self._flush()
        self._hold_out()

    def _flush(self) -> None:
        self._is_flush_due = False
        if self.paused or not self._outbox:
            return
        messages, self._outbox, self._outbox_bytes, self._reply_bytes = self._outbox, [], 0, 0
        if self.protocol.state is not OPEN:
            return
        for message in messages:
            self.protocol.send_text(message)
        frames = self.protocol.data_to_send()
        self.transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def _hold_out(self) -> None:
        """Count the bytes the client has not taken, or could not yet; of too many on all its own, the most go."""
        if self._is_lost:
            return
        held = self._held_back + (self.queue_bytes if self.paused or self._is_sending else 0)
        largest = self._outgoing.hold(self, held)
        if largest is not None:
            largest.cut_off("too much unread on all its connections")

    def _ping(self) -> None:
        """Find out whether the client is still there: any byte of it says so, and so does any byte it takes."""
        if self.protocol.state is not OPEN:
            return
        if self._is_pinged and not self.paused:
            log.info("client_silent", connection=self.label, heartbeat_s=self._bounds.heartbeat_s)
            self.fail(SILENT, "keepalive ping timeout")
            return
        if not self.paused:  # else the ping would wait behind all the client does not take, and its clock runs already
            self._is_pinged = True
            self.protocol.send_ping(b"")
            self._write_out()
        self._beat = self.loop.call_later(self._bounds.heartbeat_s, self._ping)

    def _look_at_stall(self) -> None:
        now, left = time.monotonic(), self.transport.get_write_buffer_size()
        if left < self._left_to_take:
            self._stalled_at = now  # slow, but it reads
        self._left_to_take = left
        is_patient = bool(self.subscriptions) and all(one.is_lossy for one in self.subscriptions.values())
        # What a lossy one misses is dropped and told: it may take its time, but not for ever.
        patience = PATIENCE if is_patient and not self._outbox else 1
        if now - self._stalled_at >= patience * self._bounds.outbox_age_s:
            self.cut_off("not reading")
        else:
            self._stall = self.loop.call_later(self._bounds.outbox_age_s / 4, self._look_at_stall)

    def cut_off(self, why: str) -> None:
        """End the connection at once, for what its client does not take."""
        # A close frame would wait behind everything the client does not read: the connection goes at once.
        log.warning(
            "slow_consumer",
            connection=self.label,
            user_id=self.principal.user.id if self.principal else None,
            client=self.about.get("client"),
            code=SLOW_CONSUMER,
            reason=why,
            stalled_s=round(time.monotonic() - self._stalled_at, 3) if self.paused else 0.0,
            age_s=round(time.monotonic() - self._opened_s, 3),
            queued_messages=len(self._outbox),
            queued_bytes=self.queue_bytes,
            last_method=self.last_method,
        )
        self._outbox.clear()
        self._outbox_bytes = self._reply_bytes = 0
        self._is_over = self._is_watched = self._is_lost = True
        self._drop()
        self._outgoing.hold(self, 0)
        self.transport.abort()


class _Sending:
    """A place in line of a large answer."""

    __slots__ = ("_connection", "cost_s", "owed_s")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.cost_s = self.owed_s = 0.0

    def go(self, until: float) -> bool:
        """Send it, whole."""
        began, share = now_s(), self._connection.share
        self._connection.send_large()
        share.spend(now_s() - began)
        return False
