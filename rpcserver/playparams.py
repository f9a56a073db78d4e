"""Parameters of sessions and contexts as they are kept: an object, whether given as one or as heroscript."""

from typing import Any

from play import OurTime, Params


def read(given: dict[str, Any] | str | None) -> dict[str, Any]:
    """Return the object; of heroscript, each argument stands under its own name with the value ''.

    Raises ParseError.
    """
    if not isinstance(given, str):
        return given or {}
    params = Params.parse(given)
    return {**dict.fromkeys(params.args, ""), **params.get_map()}


def moment(text: str | None) -> int:
    """Return an absolute or relative time as UTC milliseconds; 0 for none. Raises MalformedTime."""
    return 0 if text is None else OurTime.parse(text).unix * 1000
