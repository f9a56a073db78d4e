"""The text of a JSON message, read token by token: what a parser does not tell, and what is left of what is no JSON.

A parser drops the first of two equal keys, rounds a long integer, and says nothing about a text it cannot read. This
reader finds the fault, counts, and finds the id to answer to; it stops every `STEP` tokens so that others go on.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass, field

import orjson

Id = str | int | float | None

MIN_INT, MAX_INT = -(2**63), 2**63 - 1
MAX_VALUES = 20_000
MAX_NESTING = 1000  # no parser reads what is nested deeper
STEP = 250
OUTSIDE = "an integer is outside 64 bits: send it as a string"

# Up to where a string goes on; a limited number of escapes at a time, for there may be a million of them.
_REST = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+){0,1000}', re.DOTALL)
_COLON = re.compile(rb"\s*+:\s*+")
# Between strings: what opens and closes, and whole numbers that are long.
_TOKEN = re.compile(rb"[{}\[\]]|-?\d[\d.eE+-]{18,}+")
_NUMBER = re.compile(rb"-?\d[\d.eE+-]*+")


@dataclass(slots=True)
class Looked:
    """What was found in a text.

    Args:
        values: how many values it has, exactly unless it has more than were asked for.
        fault: what a parser would have passed over in silence.
        names: the keys of the outermost object, as far as they could be read.
        id: the value of its key `id`; None where none could be read.
    """

    values: int = 0
    fault: str | None = None
    names: set[str] = field(default_factory=set)
    id: Id = None


def look(text: bytes, max_values: int = MAX_VALUES) -> Generator[None, None, Looked]:
    """Read a text to its end, or until it has more values than asked for, or is nested without end."""
    found = Looked()
    keys: list[set[str] | None] = []  # of each object that is open; None for a list
    at = steps = 0
    is_id_next = False
    while at < len(text) and found.values <= max_values:
        begin = text.find(b'"', at)
        gap_end = len(text) if begin < 0 else begin
        found.values += text.count(b",", at, gap_end)
        for token in _TOKEN.finditer(text, at, gap_end):
            _take(found, keys, token[0])
            steps += 1
            if steps % STEP == 0:
                yield
            if found.values > max_values or len(keys) > MAX_NESTING:
                return found
        if begin < 0:
            return found
        end = begin + 1
        while (on := _REST.match(text, end).end()) < len(text) and text[on] != 0x22 and on > end:  # type: ignore[union-attr]
            end = on
            yield
        at = on + 1
        if is_id_next:
            found.id = _id(text[begin:at])
            is_id_next = False
        colon = _COLON.match(text, at)
        if colon is not None and keys and keys[-1] is not None:
            name = _name(found, keys[-1], text[begin:at])
            at = colon.end()
            if len(keys) == 1:
                found.names.add(name)
                if name == "id":
                    number = _NUMBER.match(text, at)
                    found.id = _id(number[0]) if number else None
                    is_id_next = text[at : at + 1] == b'"'
        steps += 1
        if steps % STEP == 0:
            yield
    return found


def _take(found: Looked, keys: list[set[str] | None], token: bytes) -> None:
    if token in b"{[":
        found.values += 1
        keys.append(set() if token == b"{" else None)
    elif token in b"}]":
        if keys:
            keys.pop()
    elif token.lstrip(b"-").isdigit() and not MIN_INT <= int(token[:40]) <= MAX_INT:
        found.fault = found.fault or OUTSIDE


def _name(found: Looked, seen: set[str], quoted: bytes) -> str:
    try:
        name = str(orjson.loads(quoted))
    except orjson.JSONDecodeError:
        name = quoted.decode("utf-8", "replace")
    if name in seen:
        found.fault = found.fault or f"the key {name[:80]!r} stands twice in one object"
    seen.add(name)
    return name


def _id(text: bytes) -> Id:
    """Return the id that a text stands for, None for what is none, or cannot be repeated."""
    try:
        id: Id = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return id if isinstance(id, str) or (id is not None and MIN_INT <= id <= MAX_INT) else None
