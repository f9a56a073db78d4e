"""Allergies and affinities: what keeps a token out of a set, and what draws it in all the same.

The attributes of a token speak of what is present in the set; those of the token that defines the set speak of the
token that comes. Some repulsion and no attraction: it is not let in. Source: sessions.md 1.1, 1.2.
"""

from collections.abc import Callable

from core import attributes
from core.tokens import find
from store import Tx

RULE = "allergies"


def repulsion(tx: Tx, set_id: str, definer: tuple[str, str], comer: tuple[str, str]) -> str | None:
    """Return why a token cannot come into a set, None when it can.

    Args:
        definer, comer: id and type of the token that defines the set, and of the one that comes.
    """
    # Plain words, as users' tokens and most sets have them for types, declare nothing: nothing is looked up.
    if "." not in definer[1] and "." not in comer[1]:
        return None
    repelled: list[str] = []
    for (_, type), is_met in (
        (comer, lambda name: _is_there(tx, set_id, definer, name)),
        (definer, lambda name: _carries(tx, comer, name)),
    ):
        told, is_attracted = _verdict(tx, type, is_met)
        if is_attracted:
            return None
        repelled += told
    return f"{' and '.join(repelled)}, and nothing attracts it." if repelled else None


def _verdict(tx: Tx, type: str, is_met: Callable[[str], bool]) -> tuple[list[str], bool]:
    repelled = []
    for name, attribute in attributes.of_type(tx, type).items():
        if any(is_met(other) for other in attribute.relations.affinities):
            return [], True
        repelled += [f"{name!r} is allergic to {other!r}" for other in attribute.relations.allergies if is_met(other)]
    return repelled, False


def _is_there(tx: Tx, set_id: str, definer: tuple[str, str], name: str) -> bool:
    return name in attributes.of_type(tx, definer[1]) or attributes.is_present(tx, set_id, name)


def _carries(tx: Tx, comer: tuple[str, str], name: str) -> bool:
    if name in attributes.of_type(tx, comer[1]):
        return True
    token = find(tx, comer[0])
    return token is not None and name in token.values
