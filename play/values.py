"""What the text of one value means: a number, a truth, a list, a size. Raises ValueError, never quoting the text."""

import math
import re

_INTEGER = re.compile(r"[+-]?\d{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SIZE = re.compile(r"(\d{1,20})(KB|MB|GB)?", re.ASCII)
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{1,2}))?\s*([AP]M)?", re.ASCII)
_BYTES = {None: 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}
_TRUE = frozenset({"1", "true", "y", "yes", "t", "on", "enabled"})
_FALSE = frozenset({"0", "false", "n", "no", "f", "off", "disabled"})

RANGES = {
    "i8": (-(2**7), 2**7 - 1),
    "i16": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
    "u8": (0, 2**8 - 1),
    "u16": (0, 2**16 - 1),
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
}


def integer(text: str, kind: str) -> int:
    """Read a decimal number that fits `kind`, a key of `RANGES`."""
    low, high = RANGES[kind]
    stripped = text.strip()
    if not _INTEGER.fullmatch(stripped) or not low <= int(stripped) <= high:
        raise ValueError(f"is no {kind} number, {low} to {high}")
    return int(stripped)


def floating(text: str) -> float:
    """Read a decimal number; a `%` anywhere divides it by 100."""
    number = text.replace("%", "").strip()
    if not _FLOAT.fullmatch(number) or not math.isfinite(float(number)):
        raise ValueError("is no number")
    return float(number) / 100 if "%" in text else float(number)


def percentage(text: str) -> float:
    """Read 0 to 100, with or without a `%` before or behind it, as 0 to 1."""
    number = text.strip().removeprefix("%").removesuffix("%").strip()
    if not _FLOAT.fullmatch(number) or not 0 <= float(number) <= 100:
        raise ValueError("is no percentage, 0 to 100")
    return float(number) / 100


def is_true(text: str) -> bool:
    """Tell whether the text says yes, in any spelling."""
    return _word(text) in _TRUE


def is_false(text: str) -> bool:
    """Tell whether the text says no, in any spelling."""
    return _word(text) in _FALSE


def items(text: str) -> list[str]:
    """Split a list at its commas; brackets, quotes, blanks and empty items go."""
    return [item for item in _split(text) if item]


def numbers(text: str) -> list[str]:
    """Split a list of numbers at its commas; an empty item is kept, to be refused, unless the list is empty."""
    found = _split(text)
    return found if found != [""] else []


def size_bytes(text: str) -> int:
    """Read `10`, `10KB`, `5mb` or `1GB` as bytes; a unit is 1024 of the one before it."""
    number, unit = _size(text)
    return number * _BYTES[unit]


def size_gigabytes(text: str) -> int:
    """Read a size as gigabytes, rounded up; a plain number already is gigabytes."""
    number, unit = _size(text)
    return -(-number * _BYTES[unit or "GB"] // _BYTES["GB"])


def seconds_of_day(text: str) -> int:
    """Read `16:21`, `8PM` or `8:07 pm` as seconds since midnight; `24` is the end of the day."""
    match = _CLOCK.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError("is no time of the day")
    hours, minutes = int(match[1]), int(match[2] or 0)
    if minutes > 59 or hours > (12 if match[3] else 24) or (hours == 24 and minutes):
        raise ValueError("is no time of the day")
    if match[3]:
        hours = hours % 12 + (12 if match[3] == "PM" else 0)
    return hours * 3600 + minutes * 60


def telephone(text: str) -> str:
    """Keep a telephone number without `+`, `-` and blanks."""
    return re.sub(r"[+\s-]", "", text)


def email(text: str) -> str:
    """Give an address in lower case."""
    return text.strip().lower()


def _split(text: str) -> list[str]:
    return [item.strip().strip("'\"").strip() for item in text.strip(" []").split(",")]


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _size(text: str) -> tuple[int, str | None]:
    match = _SIZE.fullmatch(text.strip().upper())
    if match is None:
        raise ValueError("is no storage size such as 10, 64KB, 512MB or 10GB")
    return int(match[1]), match[2]
