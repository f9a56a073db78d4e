"""The attributes every server knows, in families: any token may carry them, whatever its type.

Source: sessions.md 3.4 (core.standard.family.list), 1.1 (the three well-known attributes of a command).
"""

from dataclasses import dataclass, field
from typing import Any

from core.calls import Scene, core_call
from core.errors import NotFound
from core.limits import Limits, check
from store import Tx


@dataclass(frozen=True, slots=True)
class StandardAttribute:
    """A well-known attribute: what it holds, within which limits, and what it is for.

    `limits`: `minimum`, `maximum`: of a text, its length in characters. What says `any` is any JSON value.
    """

    name: str
    value_type: str
    doc: str
    limits: dict[str, Any] = field(default_factory=dict)


class FamilyNotFound(NotFound):
    """There is no such family of standard attributes."""

    noun = "family"


FAMILIES: dict[str, tuple[StandardAttribute, ...]] = {
    "token": (
        StandardAttribute("description", "markdown", "What it is, in a sentence or two."),
        StandardAttribute("image", "url", "A picture of it.", {"maximum": 2048}),
    ),
    "command": (
        StandardAttribute("sort", "any", "Its place in the pallet: a number, or a script or remote that gives one."),
        StandardAttribute("write", "any", "Where a command's input goes: a value, a script or a remote."),
        StandardAttribute("read", "any", "What a command answers: a value, a script or a remote."),
        StandardAttribute(
            "accepts", "string", "The kind of input it takes, such as `string` or `json`.", {"maximum": 64}
        ),
    ),
    "set": (StandardAttribute("greeting", "markdown", "What whoever enters reads first."),),
}
STANDARD = {attribute.name: attribute for family in FAMILIES.values() for attribute in family}
NAMES = frozenset(STANDARD)


@core_call("core.standard.family.list", is_reading=True)
def list_(scene: Scene, family: str | None = None) -> dict[str, list[StandardAttribute]]:
    """Return the standard attributes by family, with what they may hold. Raises FamilyNotFound."""
    if family is not None and family not in FAMILIES:
        raise FamilyNotFound(family)
    return {name: list(FAMILIES[name]) for name in FAMILIES if family in (None, name)}


def check_free(tx: Tx, name: str, value: Any) -> None:
    """Raise BadValue when a value does not fit an attribute that the token's type does not declare."""
    found = STANDARD.get(name)
    if found is None or value is None:
        check(tx, name, "any", Limits(), value)
    else:
        check(tx, name, found.value_type, Limits(**found.limits), value)
