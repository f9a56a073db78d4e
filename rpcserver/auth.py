"""Who is calling: credentials and their scopes; which pages and hosts may connect at all.

A credential is 256 random bits shown once; only its SHA-256 is stored. Source: protocol.md 1.
"""

import base64
import binascii
import fnmatch
import hashlib
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import orjson

from core import users
from core.users import User
from store import Tx, new_id, now_ms

SUBPROTOCOL = "rpcserver.v1"
BEARER_SUBPROTOCOL = "base64url.bearer.rpcserver."
PREFIX = "rpc_"


class Secret(str):
    """Text that logs and tracebacks show as `***`."""

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and how far the credential reaches."""

    user: User
    credential_id: str
    label: str
    scopes: tuple[str, ...]
    expires_at: int | None

    def may(self, method: str) -> bool:
        """Tell whether the scopes, method names with `*` and `?`, include the method."""
        return any(scope == "*" or fnmatch.fnmatchcase(method, scope) for scope in self.scopes)


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
        _hash(text),
        label,
        orjson.dumps(scopes).decode(),
        expires_at,
        now_ms(),
    )
    return text


def end(tx: Tx, text: str) -> bool:
    """Delete a credential by its text; tell whether there was one."""
    return bool(tx.run("DELETE FROM credentials WHERE hash = ?", _hash(text)))


def find(tx: Tx, text: str) -> Principal | None:
    """Return who holds the credential, None when it is unknown, expired, or its user is frozen."""
    # Looking up the hash of 256 random bits leaks nothing by its timing: a guess cannot be steered byte by byte.
    row = tx.one("SELECT id, user_id, label, scopes, expires_at FROM credentials WHERE hash = ?", _hash(text))
    if row is None or (row[4] is not None and row[4] <= now_ms()):
        return None
    user = users.find(tx, row[1])
    if user is None or user.is_frozen:
        return None
    return Principal(user, row[0], row[2], tuple(orjson.loads(row[3])), row[4])


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


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
