"""Logs on standard error: readable on a terminal, one JSON object a line elsewhere."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog

MAX_FIELD_CHARACTERS = 2048


class _Patient:
    """A stream that may be a file on a full disk: a line that finds no room is dropped, and nobody fails for it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Have it written."""
        with suppress(OSError):
            self._stream.flush()


def configure(is_debug: bool = False) -> None:
    """Set structlog up; called once, by the command line."""
    is_terminal = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if is_terminal
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _cut,
    ]
    if not is_terminal:
        # Without the locals: they hold what callers sent, and credentials.
        transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
        processors.append(structlog.processors.ExceptionRenderer(transformer))
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if is_debug else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(_Patient(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    # At DEBUG this logger prints headers and messages, credentials included.
    logging.getLogger("websockets").setLevel(logging.WARNING)


def _cut(logger: Any, name: str, event: Any) -> Any:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_FIELD_CHARACTERS:
            event[key] = value[:MAX_FIELD_CHARACTERS] + "…"
    return event
