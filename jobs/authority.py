"""By whose credentials something is done. Whether it may be done is asked here, and when it is about to be done.

What is stored, a job, a schedule, an action of a playbook, carries the credentials that brought it. Whoever takes it up
adds their own, and every one of them has to allow it: so nothing done in a user's name reaches further than the
narrowest credential that had a hand in it, nor lives longer. Source: decision 19.
"""

import fnmatch
import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from jobs.errors import (
    AccountFrozen,
    CallsSpent,
    CredentialEnded,
    CredentialExpired,
    CredentialRevoked,
    NotAllowed,
)
from store import Clock, Tx

EVERYTHING = ("*",)
End = Literal["revoked", "expired", "frozen"]
ENDED: dict[str, type[CredentialEnded]] = {
    "revoked": CredentialRevoked,
    "expired": CredentialExpired,
    "frozen": AccountFrozen,
}


@dataclass(slots=True, eq=False, weakref_slot=True)
class Grant:
    """What one credential allows. Each is in memory once, so that all that is done with it sees at once when it ends.

    Args:
        id: of the credential's row; empty for a bearer that another system vouched for, which has none.
        user_id: in whose name it acts. holder_id: who holds it, where that is somebody else.
        scopes: names, with `*` and `?`, of what it reaches: methods, job functions, actions of playbooks.
        expires_at: UTC milliseconds; None: until revoked.
        is_metered: what is done with it is counted, and its user can read what that was.
        clock: whose wall says when it expires.
        is_lent: for as long as a command of the operator's takes; what it brings is the user's own and outlives it.
        end: why it allows nothing any more.
    """

    id: str
    user_id: str
    label: str
    scopes: tuple[str, ...]
    clock: Clock
    expires_at: int | None = None
    holder_id: str | None = None
    is_metered: bool = False
    is_lent: bool = False
    end: End | None = None

    def may(self, name: str) -> bool:
        """Tell whether the scopes include a name."""
        return self.scopes == EVERYTHING or any(fnmatch.fnmatchcase(name, scope) for scope in self.scopes)

    def covers(self, scope: str) -> bool:
        """Tell whether a scope reaches no further than these."""
        is_name = not any(sign in scope for sign in "*?[")
        return "*" in self.scopes or scope in self.scopes or (is_name and self.may(scope))

    @property
    def over(self) -> End | None:
        """Why it allows nothing now; the wall clock decides."""
        if self.end is None and self.expires_at is not None and self.expires_at <= self.clock.now_ms():
            return "expired"
        return self.end

    def require(self, *names: str) -> None:
        """Raise CredentialRevoked, CredentialExpired, AccountFrozen or NotAllowed unless all of this is allowed now."""
        if (end := self.over) is not None:
            raise ENDED[end](self.id, self.label)
        for name in names:
            if not self.may(name):
                raise NotAllowed(name, self.id, self.label)

    @property
    def stored(self) -> str | dict[str, object]:
        """What is kept of it with what it brought: its id, or, where there is no row to look it up, all of it."""
        if self.id and not self.is_lent:
            return self.id
        expires_at = None if self.is_lent else self.expires_at
        return {"user_id": self.user_id, "label": self.label, "scopes": self.scopes, "expires_at": expires_at}


@dataclass(frozen=True, slots=True)
class Authority:
    """The credentials something is done by; none: the server itself, or its operator."""

    grants: tuple[Grant, ...] = ()

    def require(self, *names: str) -> None:
        """Raise what the first grant raises that does not allow this now; no name: none has to be included."""
        for grant in self.grants:
            grant.require(*names)

    def may(self, name: str) -> bool:
        """Tell whether all scopes include a name."""
        return all(grant.may(name) for grant in self.grants)

    def __and__(self, other: "Authority") -> "Authority":
        """Return what both allow."""
        held = {grant.id for grant in self.grants if grant.id}
        return Authority(
            (*self.grants, *(one for one in other.grants if one not in self.grants and one.id not in held))
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """Those of them that have a row."""
        return tuple(grant.id for grant in self.grants if grant.id)

    @property
    def is_unlimited(self) -> bool:
        """Tell whether nothing is out of reach of any of them."""
        return all(grant.scopes == EVERYTHING for grant in self.grants)

    @property
    def is_metered(self) -> bool:
        """Tell whether what is done has to be counted."""
        return any(grant.is_metered for grant in self.grants)

    @property
    def over(self) -> End | None:
        """Why one of them allows nothing now."""
        return next((end for grant in self.grants if (end := grant.over) is not None), None)

    def own(self, key: str) -> str:
        """Return a caller's key as rows have it: what credentials with other scopes keep under it is not theirs."""
        if self.is_unlimited:
            return key
        reach = json.dumps(sorted({tuple(sorted(grant.scopes)) for grant in self.grants}))
        return f"{key}\n{hashlib.sha256(reach.encode()).hexdigest()[:32]}"

    @property
    def stored(self) -> str:
        """It as text, for a row; `Ledger.load` reads it."""
        kept = tuple(grant.stored for grant in self.grants)
        ids = tuple(one for one in kept if isinstance(one, str))
        return _listed(ids) if len(ids) == len(kept) else json.dumps(kept)


@lru_cache(4096)
def _listed(ids: tuple[str, ...]) -> str:
    # Every job has this twice in its row and its event, and mostly the same.
    return json.dumps(ids)


SERVER = Authority()


@dataclass(frozen=True, slots=True)
class Spent:
    """What came of counting: the entries in the logs of the limited credentials, or why one has no call left."""

    entries: tuple[str, ...] = ()
    refusal: CallsSpent | CredentialRevoked | None = None


class Ledger(Protocol):
    """Whoever keeps the credentials: reads what was stored of them, and counts what is done."""

    def load(self, tx: Tx, stored: str) -> Authority:
        """Return who brought something, as they are in this transaction, which is one of the writer's."""

    def spend(self, tx: Tx, authority: Authority, name: str) -> Spent:
        """Count a call against every limited one of them, or, when one has none left, against none."""

    def note(self, entries: Collection[str], outcome: str) -> None:
        """Write down what became of a call that was counted; nobody waits for it."""


class NoLedger:
    """A ledger where nothing has a credential."""

    def load(self, tx: Tx, stored: str) -> Authority:
        """Return the server itself."""
        return SERVER

    def spend(self, tx: Tx, authority: Authority, name: str) -> Spent:
        """Count nothing."""
        return Spent()

    def note(self, entries: Collection[str], outcome: str) -> None:
        """Write nothing down."""
