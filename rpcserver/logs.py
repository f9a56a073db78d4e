"""Logs on standard error: readable on a terminal, one JSON object a line elsewhere."""

import logging
import sys
from typing import Any

import structlog

MAX_FIELD_CHARACTERS = 2048


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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # At DEBUG this logger prints headers and messages, credentials included.
    logging.getLogger("websockets").setLevel(logging.WARNING)


def _cut(logger: Any, name: str, event: Any) -> Any:
    for key, value in event.items():
        if isinstance(value, str) and len(value) > MAX_FIELD_CHARACTERS:
            event[key] = value[:MAX_FIELD_CHARACTERS] + "…"
    return event
