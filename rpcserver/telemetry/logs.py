"""Logs on standard error: readable on a terminal, one JSON object a line elsewhere.

Every line goes this way: ours, those of libraries and of warnings, and what nobody caught. So none has a control
character that somebody else chose, and of a flood of lines of one event some are written and the others counted.
"""

import atexit
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TextIO

import structlog

MAX_FIELD_CHARACTERS = 2048
MAX_FIELD_ITEMS = 100
MAX_EQUAL_LINES = 50
WINDOW_S = 10.0  # in which lines of one event are counted together
MAX_EVENTS = 1000  # that are told apart: a plugin may put anything into their names
LEFT_OUT = "lines_left_out"

Event = MutableMapping[str, Any]


class _Patient:
    """A stream that may be a file on a full disk: a line that finds no room is dropped, and nobody fails for it.

    Nothing is kept in a buffer: what it could not write would be tried again, and fail, as the process ends.
    """

    def __init__(self, stream: TextIO) -> None:
        self._raw = getattr(stream.buffer, "raw", stream.buffer)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            self._raw.write(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: it is written."""


class Rate:
    """Lets so many lines of one event through in `WINDOW_S`, and tells afterwards how many were left out.

    Args:
        most: lines of one event (of libraries: of one logger).
        tell: called with the event, its logger, how many, and in how many seconds.
    """

    def __init__(
        self,
        most: int,
        tell: Callable[[str, str | None, int, float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._tell = tell
        self._clock = clock
        self._lock = threading.RLock()  # a signal may be logged while a line is counted
        self._seen: dict[tuple[str, str | None], tuple[float, int]] = {}  # since when, and how many
        self._timer: threading.Timer | None = None

    def __call__(self, logger: Any, name: str, event: Event) -> Event:
        """Count a line; raise DropEvent when it is one too many."""
        key = str(event["event"])[:MAX_FIELD_CHARACTERS], event.get("logger")
        if key[0] == LEFT_OUT:
            return event
        with self._lock:
            now = self._clock()
            if key not in self._seen and len(self._seen) >= MAX_EVENTS:
                self.tell()
                if len(self._seen) >= MAX_EVENTS:
                    key = "others", None
            began, lines = self._seen.get(key, (now, 0))
            if now - began >= WINDOW_S:
                self.tell()
                began, lines = now, 0
            self._seen[key] = began, lines + 1
            if lines < self._most:
                return event
            self._tell_in_a_while()
        raise structlog.DropEvent

    def tell(self, is_end: bool = False) -> None:
        """Tell what was left out in the windows that are over; at the end in all."""
        with self._lock:
            now = self._clock()
            over = [(key, *seen) for key, seen in self._seen.items() if is_end or now - seen[0] >= WINDOW_S]
            for key, _, _ in over:
                del self._seen[key]
        for (event, logger), began, lines in over:
            if lines > self._most:
                self._tell(event, logger, lines - self._most, round(now - began, 1))

    def _tell_in_a_while(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(WINDOW_S, self._told_in_time)
            self._timer.daemon = True
            self._timer.start()

    def _told_in_time(self) -> None:
        self.tell()
        with self._lock:
            self._timer = None
            if any(lines > self._most for _, lines in self._seen.values()):
                self._tell_in_a_while()


class _Libraries(logging.Handler):
    """What libraries log, and warnings, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record."""
        try:
            text = record.getMessage()
        except Exception as error:  # the library's own mistake: its line is told as it is
            text = f"{record.msg!r} {record.args!r} ({error})"
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        log.log(level, "library", logger=record.name, text=text, exc_info=record.exc_info)


log = structlog.get_logger("logs")


def configure(level: int = logging.INFO, max_equal_lines: int = MAX_EQUAL_LINES) -> None:
    """Have every line of this process go through here; called by the command line."""
    is_terminal = sys.stderr.isatty()
    rate = Rate(max_equal_lines, _left_out)
    structlog.configure(
        processors=[rate, *processors(is_terminal)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(_Patient(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # At DEBUG libraries print headers and messages, credentials included: whatever our own level is.
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = lambda kind, error, trace: _uncaught("process", error)
    threading.excepthook = lambda found: _uncaught(found.thread.name if found.thread else "thread", found.exc_value)
    sys.unraisablehook = lambda found: _uncaught(found.err_msg or "clean-up", found.exc_value)
    atexit.register(rate.tell, is_end=True)


def processors(is_terminal: bool) -> list[Any]:
    """Return what makes a line of an event, on a terminal or elsewhere."""
    stamped: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    if is_terminal:
        return [*stamped, _shown, structlog.dev.ConsoleRenderer(exception_formatter=_traceback)]
    # Without the locals: they hold what callers sent, and credentials.
    transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
    rendered = structlog.processors.ExceptionRenderer(transformer)
    return [*stamped, rendered, _cut, structlog.processors.JSONRenderer(sort_keys=False)]  # all but ASCII is escaped


def escaped(text: str) -> str:
    """Return text with everything that is not printed as a character written as an escape."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _left_out(event: str, logger: str | None, times: int, in_s: float) -> None:
    of = {"of": event} if logger is None else {"of": event, "logger": logger}
    log.warning(LEFT_OUT, times=times, in_s=in_s, **of)


def _uncaught(where: str, error: BaseException | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        return
    log.critical("uncaught", where=where, reason=str(error), exc_info=error)


def _shown(logger: Any, name: str, event: Event) -> Event:
    for key, value in event.items():
        if key != "exc_info" and not isinstance(value, bool | int | float | None):
            event[key] = escaped(_shortened(value if isinstance(value, str) else repr(value)))
    return event


def _traceback(out: TextIO, exc_info: Any) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    # Indented: a line of an exception's text looks like none of ours.
    out.write("\n".join("    " + escaped(line) for line in text.getvalue().split("\n")))


def _cut(logger: Any, name: str, event: Event) -> Event:
    for key, value in event.items():
        event[key] = _shortened(value)
    return event


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_FIELD_CHARACTERS else value[:MAX_FIELD_CHARACTERS] + "…"
    if isinstance(value, dict):
        return {_shortened(str(key)): _shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value[:MAX_FIELD_ITEMS]]
    return value
