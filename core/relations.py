"""What an attribute wants beside it: on the same token, and in the sets that the token is put into.

Source: sessions.md 1.1 (required and forbidden siblings, allergies, affinities).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

MAX_NAMES = 32


@dataclass(frozen=True, slots=True)
class Relations:
    """Other attributes, by name.

    Args:
        required_siblings: the token must hold them wherever it holds this one.
        forbidden_siblings: the token may not hold them beside this one.
        allergies: repel the token from a set in which one of them is present, unless something attracts it.
        affinities: attract it to a set in which one of them is present.
    """

    required_siblings: list[str] = field(default_factory=list)
    forbidden_siblings: list[str] = field(default_factory=list)
    allergies: list[str] = field(default_factory=list)
    affinities: list[str] = field(default_factory=list)

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (read where relations come in: no unknown names)

    def given(self) -> dict[str, list[str]]:
        """Return what was set."""
        everything = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: names for name, names in everything.items() if names}

    def fault(self, name: str) -> str | None:
        """Return what makes no sense for an attribute of this name, None when all does."""
        if any(len(names) > MAX_NAMES for names in self.given().values()):
            return f"it names more than {MAX_NAMES} attributes of one kind"
        if name in (*self.required_siblings, *self.forbidden_siblings):
            return "it is no sibling of itself"
        for one, other in ((self.required_siblings, self.forbidden_siblings), (self.allergies, self.affinities)):
            both = sorted(set(one) & set(other))
            if both:
                return f"{both[0]!r} cannot be both wanted and unwanted"
        return None

    def missed(self, name: str, values: Mapping[str, Any]) -> str | None:
        """Return why the attribute cannot be held beside these values, None when it can."""
        for other in self.required_siblings:
            if values.get(other) is None:
                return f"it is held only beside {other!r}"
        for other in self.forbidden_siblings:
            if values.get(other) is not None:
                return f"it is never held beside {other!r}"
        return None
