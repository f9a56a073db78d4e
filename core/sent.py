"""Where what is sent to a remote comes from, and what of its answer is taken: the words of a definition.

Source: sessions.md 4.2 (mapping: constant or path, is_secret; data, header, response code).
"""

import re
from dataclasses import dataclass
from typing import Literal

from core.errors import BadRemote

Kind = Literal["value", "token", "caller", "owner", "type", "earlier", "constant", "secret"]
SENT = ("value", "token", "caller", "owner", "type", "earlier", "constant", "secret")
TAKEN = ("data", "header", "code")
PATH = re.compile(r"[\w@:-]+(?:\.[\w@:-]+)*")
NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Part:
    """What stands for one thing sent or taken: its kind, and the path, name or text behind it."""

    kind: str
    rest: str


def sent(text: str) -> Part:
    """Return what a source such as `token.PATH`, `constant:TEXT` or `secret:NAME` means. Raises BadRemote."""
    part = split(text)
    if part.kind not in SENT:
        raise BadRemote(f"{text[:80]!r} is none of {', '.join(SENT)}")
    if part.kind in ("value", "token", "earlier"):
        is_good = not part.rest or PATH.fullmatch(part.rest) is not None
    elif part.kind in ("caller", "owner"):
        is_good = part.rest in ("", "id", "name")
    elif part.kind == "secret":
        is_good = NAME.fullmatch(part.rest) is not None
    else:
        is_good = part.kind == "constant" or not part.rest
    if not is_good:
        raise BadRemote(f"{text[:80]!r} cannot be read: write {_HOW[part.kind]}")
    return part


def taken(text: str) -> Part:
    """Return what `data.PATH`, `header:NAME` or `code` means. Raises BadRemote."""
    part = split(text)
    if part.kind not in TAKEN:
        raise BadRemote(f"{text[:80]!r} is none of {', '.join(TAKEN)}")
    if part.kind == "data" and part.rest and not PATH.fullmatch(part.rest):
        raise BadRemote(f"{part.rest[:80]!r} is not a path of names and numbers joined by dots")
    elif part.kind == "header" and not NAME.fullmatch(part.rest):
        raise BadRemote(f"{part.rest[:80]!r} is not the name of a header")
    elif part.kind == "code" and part.rest:
        raise BadRemote("`code` stands alone")
    return part


def split(text: str) -> Part:
    """Return kind and rest, unchecked: `constant`, `secret` and `header` are followed by a colon."""
    head, colon, rest = text.partition(":")
    if colon and head in ("constant", "secret", "header"):
        return Part(head, rest)
    head, _, rest = text.partition(".")
    return Part(head, rest)


_HOW = {
    "value": "value or value.PATH",
    "token": "token or token.PATH",
    "earlier": "earlier or earlier.PATH",
    "caller": "caller.id or caller.name",
    "owner": "owner.id or owner.name",
    "secret": "secret:NAME",
    "type": "type",
}
