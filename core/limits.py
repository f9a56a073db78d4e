"""What a value of each kind must look like. Source: sessions.md 1.1 (value_type, constraints)."""

import base64
import binascii
import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic_core import SchemaError, SchemaValidator, core_schema

from core.errors import BadValue
from store import Tx

ValueType = Literal[
    "any",
    "number",
    "string",
    "datetime",
    "color",
    "url",
    "email",
    "json",
    "markdown",
    "binary",
    "script",
    "remote",
    "user",
    "attribute",
    "token",
    "coordinates",
]
MAX_VALUE_BYTES = 64 * 1024
MAX_PATTERN_CHARACTERS = 200
MAX_MATCHED_CHARACTERS = 256
# The engine refuses a program above 10 MiB. A pattern must fit so many times over: time is text times program.
ROOM_IN_PROGRAM = 3
_COLOR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@.]+(?:\.[^\s@.]+)+")
_ROWS = {"user": "users", "attribute": "attributes", "token": "tokens"}
_SOURCES = {"script": "sc_", "remote": "rm_"}
_TEXTS = frozenset({"any", "json", "string", "markdown", "datetime", "color", "url", "email", "binary"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a value: numbers by size, text by length in characters, binary by its bytes when decoded.

    `choices` are the only values allowed; `pattern` is matched by the whole of a text, without look-around and back
    references.
    """

    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    choices: list[Any] | None = None
    allow_null: bool = True

    def given(self) -> dict[str, Any]:
        """Return what was set."""
        everything = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in everything.items() if value is not None and value is not True}

    def check_self(self, name: str, value_type: str, default: Any) -> None:
        """Raise BadValue when the limits contradict themselves or the default breaks them."""
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise BadValue(name, "the minimum is above the maximum")
        if value_type not in _TEXTS and (self.pattern is not None or value_type != "number" and self._is_sized()):
            raise BadValue(name, f"a {value_type} has no length and matches no pattern")
        if self.pattern is not None:
            _check_pattern(name, self.pattern)
        for choice in self.choices or ():
            check(None, name, value_type, Limits(self.minimum, self.maximum, self.pattern), choice)
        if self.choices == []:
            raise BadValue(name, "there is nothing to choose from")
        if not self.allow_null and default is None:
            raise BadValue(name, "allow_null false needs a default")
        if default is not None:
            check(None, name, value_type, self, default)

    def _is_sized(self) -> bool:
        return self.minimum is not None or self.maximum is not None


def check(tx: Tx | None, name: str, value_type: str, limits: Limits, value: Any) -> None:
    """Raise BadValue unless the value is of its type and within the limits.

    A script or remote may stand for any value.

    Args:
        tx: where users, tokens and attributes are looked up; None leaves that out.
    """
    if source_of(value) is not None and value_type not in _SOURCES:
        return
    if len(json.dumps(value)) > MAX_VALUE_BYTES:
        raise BadValue(name, f"it is longer than {MAX_VALUE_BYTES} bytes")
    reason = _wrong_type(value_type, value)
    if reason is not None:
        raise BadValue(name, reason)
    if limits.choices is not None and value not in limits.choices:
        raise BadValue(name, f"it must be one of {json.dumps(limits.choices)}")
    _check_size(name, value_type, limits, value)
    table = _ROWS.get(value_type)
    if tx is not None and table and tx.one(f"SELECT 1 FROM {table} WHERE id = ?", value) is None:  # noqa: S608
        raise BadValue(name, f"there is no such {value_type}")


def source_of(value: Any) -> tuple[str, str] | None:
    """Return ("script" or "remote", its id) when the value stands for what one of them answers."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    kind, id = next(iter(value.items()))
    prefix = _SOURCES.get(kind)
    return (kind, id) if prefix and isinstance(id, str) and id.startswith(prefix) else None


def _check_size(name: str, value_type: str, limits: Limits, value: Any) -> None:
    if value_type == "number":
        size, what = float(value), "it"
    elif value_type == "binary":
        size, what = float(len(base64.b64decode(value))), "its length in bytes"
    elif isinstance(value, str):
        size, what = float(len(value)), "its length"
    else:
        return
    if limits.minimum is not None and size < limits.minimum:
        raise BadValue(name, f"{what} is below {limits.minimum:g}")
    if limits.maximum is not None and size > limits.maximum:
        raise BadValue(name, f"{what} is above {limits.maximum:g}")
    if limits.pattern is not None and isinstance(value, str):
        if len(value) > MAX_MATCHED_CHARACTERS:
            raise BadValue(name, f"text that is to match a pattern has at most {MAX_MATCHED_CHARACTERS} characters")
        if not _compiled(limits.pattern).isinstance_python(value):
            raise BadValue(name, f"it does not match {limits.pattern!r}")


def _check_pattern(name: str, pattern: str) -> None:
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise BadValue(name, f"the pattern is longer than {MAX_PATTERN_CHARACTERS} characters")
    try:
        for text in (pattern, rf"(?:{pattern}){{{ROOM_IN_PROGRAM}}}"):
            SchemaValidator(core_schema.str_schema(pattern=text))
    except SchemaError as error:
        reason = str(error).rstrip().splitlines()[-1].removeprefix("error: ").removeprefix("  SchemaError: ")
        if "size limit" in reason:
            reason = r"it is too large: repeat less often, or fewer characters, such as [a-z0-9] for \w"
        raise BadValue(name, f"the pattern cannot be used: {reason}") from error


@lru_cache(maxsize=32)
def _compiled(pattern: str) -> SchemaValidator:
    # Python's own engine backtracks and would hold the writer for as long as a pattern likes; this one is linear.
    return SchemaValidator(core_schema.str_schema(pattern=rf"\A(?:{pattern})\z"))


def _wrong_type(value_type: str, value: Any) -> str | None:
    if value_type in ("any", "json"):
        return None
    if value_type == "number":
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return None if is_number else "it must be a number"
    if value_type == "coordinates":
        return None if _is_position(value) else "it must be {latitude, longitude}"
    if value_type in _SOURCES:
        found = source_of(value)
        return None if found and found[0] == value_type else f"it must be {{{value_type!r}: id}}"
    if not isinstance(value, str):
        return "it must be text"
    return None if _is_spelled(value_type, value) else f"it is not a {value_type}"


def _is_spelled(value_type: str, value: str) -> bool:
    if value_type == "color":
        return _COLOR.fullmatch(value) is not None
    if value_type == "email":
        return len(value) <= 254 and _EMAIL.fullmatch(value) is not None
    try:
        if value_type == "datetime":
            datetime.fromisoformat(value)
        elif value_type == "url":
            parts = urlsplit(value)
            return parts.scheme in ("http", "https") and bool(parts.hostname)
        elif value_type == "binary":
            base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error):
        return False
    return True


def _is_position(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"latitude", "longitude"}:
        return False
    numbers = [value["latitude"], value["longitude"]]
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        return False
    return bool(abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180)
