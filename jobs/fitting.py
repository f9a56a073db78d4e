"""Values that come from another language's JSON, made to fit a model that is strict about types.

Common encoders write what is left out as null, and every number as a float: `{"limit": 10.0, "order": null}` is meant
as `{"limit": 10}`. Only what a model refuses is looked at, so that a null it knows keeps its meaning.
"""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

MOST = 100  # things that are mended, or told, of one value
_INTEGER = 2.0**63


def fitted(model: type[M], given: dict[str, Any]) -> M:
    """Return the model of what was given. Raises ValidationError, about what was given."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        mended = _mended(given, error)
        if mended is None:
            raise
        try:
            return model.model_validate(mended)
        except ValidationError:
            raise error from None


def _mended(given: dict[str, Any], error: ValidationError) -> dict[str, Any] | None:
    """Return a copy without the nulls and floats that did not fit, None when there were none of them."""
    if error.error_count() > MOST:
        return None
    mended = given
    for item in error.errors(include_url=False, include_context=False):
        value, loc = item["input"], item["loc"]
        if value is None and item["type"] != "missing":
            mended = _with(mended, loc, None)
        elif item["type"] == "int_type" and isinstance(value, float) and value.is_integer() and abs(value) < _INTEGER:
            mended = _with(mended, loc, int(value))
    return None if mended is given else mended


def _with(part: Any, loc: tuple[int | str, ...], value: int | None) -> Any:
    """Return a copy with another value at a place; None: left out there. What is no place in it changes nothing."""
    if not loc:
        return part
    name, rest = loc[0], loc[1:]
    if not isinstance(part, dict | list) or not (name in part if isinstance(part, dict) else isinstance(name, int)):
        # Not a place in the value but the name of one of a union's types.
        return _with(part, rest, value)
    held = part[name]  # type: ignore[index]
    if rest:
        changed = _with(held, rest, value)
    elif value is not None:
        changed = value
    elif held is not None or isinstance(part, list):
        return part
    else:
        return {key: one for key, one in part.items() if key != name}
    if changed is held:
        return part
    copy = part.copy()
    copy[name] = changed  # type: ignore[index]
    return copy
