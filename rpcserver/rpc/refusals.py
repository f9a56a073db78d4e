"""What the edge refuses to callers: for their credential, their number, or what they said before."""

from rpcserver.rpc.errors import (
    BUSY,
    FORBIDDEN,
    IDEMPOTENCY_CONFLICT,
    NOT_FOUND,
    RATE_LIMITED,
    SHUTTING_DOWN,
    UNAUTHENTICATED,
    RpcError,
)


class NotFromInside(RpcError):
    """The method is about a client's own connection or credential."""

    def __init__(self, method: str) -> None:
        message = f"{method} is about a client's own connection or credential: plays and plugins cannot call it."
        super().__init__(FORBIDDEN, "FORBIDDEN", message)


class CredentialNotFound(RpcError):
    """There is no such credential, or it is another user's."""

    def __init__(self, credential_id: str) -> None:
        message = f"No credential {credential_id[:80]!r} of yours. credentials.list names yours."
        super().__init__(NOT_FOUND, "CREDENTIAL_NOT_FOUND", message)


class TicketSpent(RpcError):
    """A ticket opens once, and not for long."""

    def __init__(self, why: str) -> None:
        message = (
            f"The ticket was {why}: log in again, or have another made."
            if why == "used"
            else ("The ticket is too old: log in again, or have another made.")
        )
        super().__init__(UNAUTHENTICATED, "TICKET_SPENT", message)


class CredentialLimit(RpcError):
    """There are as many credentials in the user's name as there may be."""

    def __init__(self, limit: int) -> None:
        message = f"There are {limit} credentials in your name, the most allowed: revoke one first."
        super().__init__(BUSY, "CREDENTIAL_LIMIT", message, limit=limit)


class ScopeTooWide(RpcError):
    """A credential cannot give more than it has."""

    def __init__(self, what: str) -> None:
        message = f"This credential cannot make one that {what}: it would reach further than itself."
        super().__init__(FORBIDDEN, "SCOPE_TOO_WIDE", message)


class NotRenewable(RpcError):
    """The credential cannot be extended."""

    def __init__(self) -> None:
        message = "This credential ends when it ends: give auth.refresh another one, or have a renewable one made."
        super().__init__(FORBIDDEN, "NOT_RENEWABLE", message)


class RateLimited(RpcError):
    """Too many calls, or attempts, in too short a time."""

    def __init__(self, wait_s: float, message: str = "Too many calls: slow down.") -> None:
        wait_ms = max(1, round(wait_s * 1000))
        super().__init__(RATE_LIMITED, "RATE_LIMITED", message, is_retryable=True, retry_after_ms=wait_ms)


class TooManyConnections(RpcError):
    """The user or address has as many connections as it may have."""

    def __init__(self, whose: str, limit: int) -> None:
        message = f"There are {limit} connections of {whose}, the most allowed: close one first."
        super().__init__(BUSY, "TOO_MANY_CONNECTIONS", message, limit=limit)


class Maintenance(RpcError):
    """The operator has stopped the service for a while."""

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(SHUTTING_DOWN, "MAINTENANCE", message, is_retryable=True, retry_after_ms=retry_after_ms)


class KeyConflict(RpcError):
    """The idempotency key belongs to another call."""

    def __init__(self) -> None:
        message = "This idempotency key was used for another method or other params: take a new key for a new call."
        super().__init__(IDEMPOTENCY_CONFLICT, "IDEMPOTENCY_CONFLICT", message)
