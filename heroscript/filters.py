"""Which actions a filter such as `git.*,site:page` means, and in which order actions are played.

Source: heroscript.md 5.1.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

Matcher = Callable[[str], bool]
_PART = re.compile(r"(\*++)|(\?)|\[(\^?)([^\]]++)\]|(.)", re.DOTALL)
_RANGE = re.compile(r"(\w)\\-(\w)")
_GLOB_SIGNS = frozenset("*?[")
_MAX_KNOWN = 10_000  # names remembered


def glob(pattern: str) -> Matcher:
    """Turn a pattern into a test: `*` any run, `?` one character, `[abc]` or `[a-c]` one, `[^abc]` none of these.

    Linear in practice: what follows a star is found once and never given back.
    """
    if not _GLOB_SIGNS.intersection(pattern):
        return pattern.__eq__
    compiled = _compiled(pattern)
    return lambda text: compiled.fullmatch(text) is not None


class ActionFilter:
    """A comma list of `actor.name`, each side a word or a glob; an empty side or filter matches everything."""

    __slots__ = ("_items", "_known")

    def __init__(self, text: str) -> None:
        """Args: text: `.` and `:` are the same; an item without either is a name of the actor `core`."""
        items = [item.strip() for item in text.split(",")]
        filled = [item for item in items if item]
        if not filled and len(items) == 1:
            filled = ["*.*"]
        pairs = ("*.*" if item == "*" else item.replace(":", ".") for item in filled)
        self._items = [found for pair in pairs if (found := _item(pair))]
        self._known: dict[tuple[str, str], bool] = {}

    def matches(self, actor: str, name: str) -> bool:
        """Tell whether one of the items matches."""
        pair = actor, name
        known = self._known.get(pair)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[pair] = any(of_actor(actor) and of_name(name) for of_actor, of_name in self._items)
        return known


class Order:
    """Filters by number: an action is played in the order of the lowest number whose filter matches it."""

    __slots__ = ("_filters",)

    def __init__(self, priorities: Mapping[int, str]) -> None:
        """Args: priorities: comma lists of filters by number."""
        self._filters = [(number, ActionFilter(priorities[number])) for number in sorted(priorities)]

    def of(self, actor: str, name: str) -> int | None:
        """Give the number of an action; None when no filter matches it."""
        return next((number for number, wanted in self._filters if wanted.matches(actor, name)), None)


def _item(pair: str) -> tuple[Matcher, Matcher] | None:
    sides = pair.split(".")
    if len(sides) == 1:
        sides = ["core", *sides]
    if len(sides) > 2:  # "more than two parts: no match"
        return None
    actor, name = (_side(side.strip()) for side in sides)
    return actor, name


def _side(side: str) -> Matcher:
    if not side:
        return lambda _: True
    # A glob is compared as written, a word in lower case.
    return glob(side) if _GLOB_SIGNS.intersection(side) else glob(side.lower())


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    chunks = [""]
    for star, one, negated, chars, char in _PART.findall(pattern):
        if star:
            chunks.append("")
        elif one:
            chunks[-1] += "."
        elif chars:
            chunks[-1] += f"[{negated}{_RANGE.sub(_range, re.escape(chars))}]"
        else:
            chunks[-1] += re.escape(char)
    first, *rest = chunks
    if not rest:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{chunk})" for chunk in rest[:-1])
    return re.compile(f"{first}{middle}.*{rest[-1]}", re.DOTALL)


def _range(found: re.Match[str]) -> str:
    return f"{found[1]}-{found[2]}" if found[1] <= found[2] else found[0]
