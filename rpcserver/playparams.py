"""Parameters of sessions and contexts as they are kept: an object, whether given as one or as heroscript."""

from typing import Any

from play import OurTime, Params
from store import Clock


def read(given: dict[str, Any] | str | None) -> dict[str, Any]:
    """Return the object; of heroscript, each argument stands under its own name with the value ''.

    Raises ParseError.
    """
    if not isinstance(given, str):
        return given or {}
    params = Params.parse(given)
    return {**dict.fromkeys(params.args, ""), **params.get_map()}


def moment(text: str, clock: Clock) -> int | None:
    """Return an absolute or relative time as UTC milliseconds; None for an empty text. Raises MalformedTime."""
    return OurTime.parse(text, OurTime(clock.now_ms() // 1000)).unix * 1000 if text.strip() else None
