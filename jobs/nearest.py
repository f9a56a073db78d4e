"""Which of the names there are a mistyped one may have been meant as."""

from collections.abc import Iterable
from functools import lru_cache

ALIKE = 0.5  # of both names' pairs of letters
LONGEST = 80


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the names most alike, the nearest first: those that share the most pairs of neighbouring letters.

    It costs the same whatever was typed: some microseconds for a hundred names.
    """
    pairs = _pairs.__wrapped__(name[:LONGEST])
    found = []
    for one in known:
        its = _pairs(one)
        likeness = 2 * len(pairs & its) / (len(pairs) + len(its) or 1)
        if likeness >= ALIKE:
            found.append((-likeness, one))
    return [one for _, one in sorted(found)[:most]]


@lru_cache(maxsize=4096)
def _pairs(name: str) -> frozenset[str]:
    # The first letter counts as a pair of its own.
    return frozenset(map("".join, zip(f" {name}", name, strict=False)))
