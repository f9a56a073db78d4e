"""Who is calling, and how far his credential reaches; which pages and hosts may connect at all.

A credential is 256 random bits shown once; only its SHA-256 is stored. Source: protocol.md 1.
"""

import base64
import binascii
import fnmatch
import hashlib
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import orjson

from core import users
from core.users import User
from store import Tx, new_id

SUBPROTOCOL = "rpcserver.v1"
BEARER_SUBPROTOCOL = "base64url.bearer.rpcserver."
PREFIX = "rpc_"
EVERYTHING = ("*",)
_FIND = (
    "SELECT c.id, c.user_id, c.label, c.scopes, c.expires_at, t.is_metered, h.name FROM credentials c"
    " LEFT JOIN credential_terms t ON t.credential_id = c.id LEFT JOIN users h ON h.id = t.holder_id WHERE "
)


class Secret(str):
    """Text that logs and tracebacks show as `***`."""

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and how far the credential reaches.

    Args:
        user: in whose name the calls are made.
        credential_id: the row to revoke; empty when another system vouched for the user.
        holder: the name of the user who holds the credential, where that is not `user` himself.
        expires_at: UTC milliseconds; None: until revoked.
        is_metered: its calls are counted, and its owner can read which they were.
    """

    user: User
    credential_id: str
    label: str
    scopes: tuple[str, ...]
    expires_at: int | None
    holder: str | None = None
    is_metered: bool = False

    def may(self, method: str) -> bool:
        """Tell whether the scopes, method names with `*` and `?`, include the method."""
        scopes = self.scopes
        return scopes == EVERYTHING or any(fnmatch.fnmatchcase(method, scope) for scope in scopes)

    def covers(self, scope: str) -> bool:
        """Tell whether a scope reaches no further than this principal's."""
        is_name = not any(sign in scope for sign in "*?[")
        return "*" in self.scopes or scope in self.scopes or (is_name and self.may(scope))


def issue(tx: Tx, user_id: str, label: str, scopes: tuple[str, ...] = ("*",), expires_at: int | None = None) -> Secret:
    """Make a credential and return its text, which is nowhere kept.

    Args:
        expires_at: UTC milliseconds; None: until revoked.
    """
    text = Secret(PREFIX + secrets.token_urlsafe(32))
    tx.run(
        "INSERT INTO credentials (id, user_id, hash, label, scopes, expires_at, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        new_id("c_"),
        user_id,
        hash_of(text),
        label,
        orjson.dumps(scopes).decode(),
        expires_at,
        tx.clock.now_ms(),
    )
    return text


def end(tx: Tx, text: str) -> bool:
    """Delete a credential by its text; tell whether there was one."""
    return bool(tx.run("DELETE FROM credentials WHERE hash = ?", hash_of(text)))


def find(tx: Tx, text: str) -> Principal | None:
    """Return who holds the credential, None when it is unknown, expired, or its user is frozen."""
    # Looking up the hash of 256 random bits leaks nothing by its timing: a guess cannot be steered byte by byte.
    return _principal(tx, tx.one(_FIND + "c.hash = ?", hash_of(text)))


def find_by_id(tx: Tx, credential_id: str) -> Principal | None:
    """Return who holds the credential of that id, None as `find`."""
    return _principal(tx, tx.one(_FIND + "c.id = ?", credential_id))


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

    Addresses of this machine and `localhost` are always ours.
    """
    if not host:
        return False
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if host in allowed or name in allowed or name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def hash_of(text: str) -> str:
    """Return what is stored of a credential or ticket."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _principal(tx: Tx, row: tuple[Any, ...] | None) -> Principal | None:
    if row is None or (row[4] is not None and row[4] <= tx.clock.now_ms()):
        return None
    user = users.find(tx, row[1])
    if user is None or user.is_frozen:
        return None
    return Principal(user, row[0], row[2], tuple(orjson.loads(row[3])), row[4], row[6], bool(row[5]))
