"""Who is calling, and how far his credential reaches; which pages and hosts may connect at all.

A credential is 256 random bits shown once; only its SHA-256 is stored. Source: protocol.md 1.
"""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from core import users
from core.errors import UserNotFound
from core.users import User
from jobs.authority import EVERYTHING, Authority, Grant
from jobs.errors import AccountFrozen
from rpcserver.addresses import is_loopback, split_host
from store import Clock, Row, Tx, new_id

OPERATORS_SCOPES = ("metrics",)  # what the operator alone gives: no name of anything a user may do
SUBPROTOCOL = "rpcserver.v1"
BEARER_SUBPROTOCOL = "base64url.bearer.rpcserver."
PREFIX = "rpc_"
LOAN_MS = 7 * 24 * 3600 * 1000  # what a command has at the most
_FIND = (
    "SELECT c.id, c.user_id, c.label, c.scopes, c.expires_at, t.holder_id, t.is_metered, h.is_frozen, h.name, c.is_lent"
    " FROM credentials c LEFT JOIN credential_terms t ON t.credential_id = c.id"
    " LEFT JOIN users h ON h.id = t.holder_id WHERE "
)

REVOKED = 0  # when a credential has expired that is over by somebody's will: its row goes when its log has gone


class Secret(str):
    """Text that logs and tracebacks show as `***`."""

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and by which credentials.

    Args:
        user: in whose name the calls are made.
        authority: the credential of a connection; of a call from inside, all that had a hand in it.
        holder: the name of the user who holds the credential, where that is not `user` himself.
    """

    user: User
    authority: Authority
    holder: str | None = None

    @property
    def grant(self) -> Grant:
        """The credential of a connection; of a call from inside, that of whoever set it off."""
        return self.authority.grants[0]

    @property
    def is_metered(self) -> bool:
        """Its calls are counted, and its owner can read which they were."""
        return self.authority.is_metered

    def may(self, name: str) -> bool:
        """Tell whether the scopes include a name."""
        return self.authority.may(name)


def issue(
    tx: Tx,
    user_id: str,
    label: str,
    scopes: tuple[str, ...] = EVERYTHING,
    expires_at: int | None = None,
    made_by: str | None = None,
    is_lent: bool = False,
) -> Secret:
    """Make a credential and return its text, which is nowhere kept.

    Args:
        expires_at: UTC milliseconds; None: until revoked.
        made_by: the narrow credential that makes it.
        is_lent: the operator acts in the user's name with it, for as long as a command takes.
    """
    text = Secret(PREFIX + secrets.token_urlsafe(32))
    tx.run(
        "INSERT INTO credentials (id, user_id, hash, label, scopes, expires_at, created_at, made_by, is_lent)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        new_id("c_"),
        user_id,
        hash_of(text),
        label,
        orjson.dumps(scopes).decode(),
        expires_at,
        tx.clock.now_ms(),
        made_by,
        int(is_lent),
    )
    return text


def lend(tx: Tx, user_name: str | None) -> Secret | None:
    """Return a credential of a user, by default of the first there is, for the command line; None: there is nobody.

    Raises UserNotFound.
    """
    row = tx.one("SELECT name FROM users ORDER BY id LIMIT 1") if user_name is None else (user_name,)
    if row is None:
        return None
    expires_at = tx.clock.now_ms() + LOAN_MS
    return issue(tx, user_named(tx, row[0]).id, "command line", expires_at=expires_at, is_lent=True)


def renew(tx: Tx, credential_id: str, expires_at: int) -> None:
    """Let a credential last until then."""
    tx.run("UPDATE credentials SET expires_at = ? WHERE id = ?", expires_at, credential_id)


def end(tx: Tx, ids: Iterable[str]) -> None:
    """Have credentials be over at once, and found by no text."""
    tx.many("UPDATE credentials SET hash = id, expires_at = ?, is_over = 1 WHERE id = ?", [(REVOKED, id) for id in ids])


def find_id(tx: Tx, text: str) -> str | None:
    """Return the id of a credential by its text, None when there is none."""
    row = tx.one("SELECT id FROM credentials WHERE hash = ?", hash_of(text))
    return None if row is None else str(row[0])


def hashes(tx: Tx, credential_id: str) -> list[str]:
    """Return the hash of a credential, unless it was only lent."""
    return [hash for (hash,) in tx.all("SELECT hash FROM credentials WHERE id = ? AND is_lent = 0", credential_id)]


def id_of(tx: Tx, text: str) -> str:
    """Return the id of a credential that was made just now."""
    found = find_id(tx, text)
    assert found is not None
    return found


def find(tx: Tx, text: str) -> Principal | None:
    """Return who holds the credential, None when it is unknown or expired. Raises AccountFrozen."""
    # Looking up the hash of 256 random bits leaks nothing by its timing: a guess cannot be steered byte by byte.
    return _principal(tx, tx.one(_FIND + "c.hash = ?", hash_of(text)))


def find_by_id(tx: Tx, credential_id: str) -> Principal | None:
    """Return who holds the credential of that id, as `find` does."""
    return _principal(tx, tx.one(_FIND + "c.id = ?", credential_id))


def grants_expired(tx: Tx, limit: int) -> list[Grant]:
    """Return some credentials that have expired and were not noted as such, and note that."""
    rows = tx.all(_FIND + "c.expires_at <= ? AND c.is_over = 0 ORDER BY c.expires_at LIMIT ?", tx.clock.now_ms(), limit)
    tx.many("UPDATE credentials SET is_over = 1 WHERE id = ?", [(row[0],) for row in rows])
    return [_grant(row, tx.clock) for row in rows]


def grant_of(tx: Tx, credential_id: str) -> Grant:
    """Return what a credential allows, whatever has become of it."""
    row = tx.one(_FIND + "c.id = ?", credential_id)
    if row is None:
        return Grant(credential_id, "", "", (), tx.clock, end="revoked")
    grant = _grant(row, tx.clock)
    user = users.find(tx, grant.user_id)
    if grant.expires_at == REVOKED:
        grant.end = "revoked"
    elif row[7] or user is None or user.is_frozen:
        grant.end = "frozen"
    return grant


def user_named(tx: Tx, name: str) -> User:
    """Return the user of that name. Raises UserNotFound."""
    user = users.find_by_name(tx, name)
    if user is None:
        raise UserNotFound(name)
    return user


def vouched(user: User, label: str, scopes: tuple[str, ...], clock: Clock, expires_at: int | None) -> Principal:
    """Return who calls with a credential of another system. Raises AccountFrozen."""
    if user.is_frozen:
        raise AccountFrozen
    return Principal(user, Authority((Grant("", user.id, label, scopes, clock, expires_at),)))


def offered(authorization: str | None, subprotocols: list[str]) -> Secret | None:
    """Return the credential an upgrade request carries: a Bearer header, or a second subprotocol from a browser."""
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer" and value.strip():
            return Secret(value.strip())
    for subprotocol in subprotocols:
        if subprotocol.startswith(BEARER_SUBPROTOCOL):
            text = subprotocol.removeprefix(BEARER_SUBPROTOCOL)
            try:
                return Secret(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
            except (binascii.Error, UnicodeDecodeError):
                return Secret("")
    return None


def is_origin_allowed(origin: str | None, allowed: tuple[str, ...]) -> bool:
    """Tell whether a page of this origin may connect. None is a script: it is asked for a credential as anybody."""
    return origin is None or origin in allowed


def is_host_allowed(host: str | None, allowed: tuple[str, ...]) -> bool:
    """Tell whether the Host header names this server, so that a foreign name resolved to our address opens nothing.

    Addresses of this machine and `localhost` are always ours; a name without a port is allowed with any.
    """
    found = split_host(host or "")
    if found is None:
        return False
    name, port = found
    return is_loopback(name) or name in allowed or f"{name}:{port}" in allowed


def hash_of(text: str) -> str:
    """Return what is stored of a credential or ticket."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _principal(tx: Tx, row: Row | None) -> Principal | None:
    grant = None if row is None else _grant(row, tx.clock)
    user = None if grant is None else users.find(tx, grant.user_id)
    if row is None or grant is None or user is None or grant.over is not None:
        return None
    if user.is_frozen or row[7]:
        raise AccountFrozen
    return Principal(user, Authority((grant,)), row[8])


def _grant(row: Row, clock: Clock) -> Grant:
    credential_id, user_id, label, scopes, expires_at, holder_id, is_metered, *_ = row
    return Grant(
        credential_id,
        user_id,
        label,
        tuple(orjson.loads(scopes)),
        clock,
        expires_at,
        holder_id,
        bool(is_metered),
        is_lent=bool(row[9]),
    )
