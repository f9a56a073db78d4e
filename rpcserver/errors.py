"""What the server itself refuses.

Source: protocol.md 6, sessions.md 2.14.

RpcError
├── ParseError, InvalidRequest, MethodNotFound, InvalidParams, RequestTooLarge, BatchTooLarge    the message
├── TimedOut, WaitingInput, Cancelled, ServerCancelled, ResponseTooLarge                         the call's end
├── Unauthenticated, TicketSpent, NotRenewable, ScopeTooWide, CredentialNotFound, CredentialLimit
├── Forbidden
│   └── NotFromInside
├── Busy, RateLimited, TooManyConnections, TooManySubscriptions                                  the caller's number
├── ShuttingDown, Maintenance, Internal
├── KeyConflict, OutcomeUnknown, AnswerNotKept                                                   idempotency keys
├── InvalidCursor
├── SessionNotFound, SessionNotReady, SessionNameTaken, SessionLimit, RevisionConflict, NotInPallet
├── JobNotFailed
└── CoderootRefused, PlaybookTooLarge, UnknownAction, PlayRunning
"""

from typing import Any


class RpcError(Exception):
    """The call cannot be answered.

    Attributes:
        code: the name of the code that a client is told.
        kind: what a client can tell it by.
        is_retryable: the same call may come to something later.
        details: what else is told.
    """

    code: str
    kind: str
    is_retryable = False

    def __init__(self, message: str, *, is_retryable: bool | None = None, **details: Any) -> None:
        self.message = message
        self.details = details
        if is_retryable is not None:
            self.is_retryable = is_retryable
        super().__init__(message)


class ParseError(RpcError):
    """The message is not JSON."""

    code = kind = "PARSE_ERROR"


class InvalidRequest(RpcError):
    """The item is not JSON-RPC 2.0; `data.reason` says where."""

    code = kind = "INVALID_REQUEST"


class MethodNotFound(RpcError):
    """There is no such method; `data.reason` names near ones."""

    code = kind = "METHOD_NOT_FOUND"


class InvalidParams(RpcError):
    """The params do not fit the method; nothing ran. `data.errors` names each."""

    code = kind = "INVALID_PARAMS"

    def __init__(self, reason: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__("Invalid params", reason=reason, errors=errors or [])


class RequestTooLarge(RpcError):
    """The message is over the limit before authentication."""

    code = kind = "REQUEST_TOO_LARGE"


class BatchTooLarge(RpcError):
    """The batch holds more items than allowed: send it in parts."""

    code = kind = "BATCH_TOO_LARGE"


class Internal(RpcError):
    """The server failed; `data.ref` stands in its log."""

    code = kind = "INTERNAL"

    def __init__(self, ref: str) -> None:
        super().__init__("Internal error", ref=ref, reason=f"The server's log says why, under {ref}.")


class TimedOut(RpcError):
    """The call took longer than its deadline and was stopped."""

    code = kind = "TIMED_OUT"


class WaitingInput(RpcError):
    """A person is asked longer than the call waits: the job `data.job_id` goes on."""

    code = "TIMED_OUT"
    kind = "WAITING_INPUT"


class Cancelled(RpcError):
    """The caller cancelled the call."""

    code = kind = "CANCELLED"


class ServerCancelled(RpcError):
    """The server stopped the call, as when it shuts down."""

    code = kind = "SERVER_CANCELLED"


class ResponseTooLarge(RpcError):
    """The answer is over the limit: ask for less at a time."""

    code = kind = "RESPONSE_TOO_LARGE"


class Unauthenticated(RpcError):
    """The call needs a credential that is valid."""

    code = kind = "UNAUTHENTICATED"

    def __init__(self, message: str = "Authenticate first: call auth.authenticate with a credential.") -> None:
        super().__init__(message)


class TicketSpent(RpcError):
    """The ticket was used, or is too old: have another made."""

    code = "UNAUTHENTICATED"
    kind = "TICKET_SPENT"

    def __init__(self, why: str) -> None:
        what = "was used" if why == "used" else "is too old"
        super().__init__(f"The ticket {what}: log in again, or have another made.")


class NotRenewable(RpcError):
    """The credential ends when it ends."""

    code = "FORBIDDEN"
    kind = "NOT_RENEWABLE"

    def __init__(self) -> None:
        super().__init__(
            "This credential ends when it ends: give auth.refresh another one, or have a renewable one made."
        )


class ScopeTooWide(RpcError):
    """A credential makes none that reaches further than itself."""

    code = "FORBIDDEN"
    kind = "SCOPE_TOO_WIDE"

    def __init__(self, what: str) -> None:
        super().__init__(f"This credential cannot make one that {what}: it would reach further than itself.")


class CredentialNotFound(RpcError):
    """No such credential, or not the caller's."""

    code = "NOT_FOUND"
    kind = "CREDENTIAL_NOT_FOUND"

    def __init__(self, credential_id: str) -> None:
        super().__init__(f"No credential {credential_id[:80]!r} of yours. credentials.list names yours.")


class CredentialLimit(RpcError):
    """There are as many credentials in the user's name as allowed: revoke one."""

    code = "BUSY"
    kind = "CREDENTIAL_LIMIT"

    def __init__(self, limit: int) -> None:
        message = f"There are {limit} credentials in your name, the most allowed: revoke one first."
        super().__init__(message, limit=limit)


class Forbidden(RpcError):
    """The credential's scopes, or the owner of the thing, do not allow it."""

    code = kind = "FORBIDDEN"


class NotFromInside(Forbidden):
    """The method is about a client's own connection or credential."""

    def __init__(self, method: str) -> None:
        super().__init__(
            f"{method} is about a client's own connection or credential: plays and plugins cannot call it."
        )


class Busy(RpcError):
    """Too much of the caller's is under way or waits; try again after `data.retry_after_ms`."""

    code = kind = "BUSY"
    is_retryable = True

    def __init__(self, limit: int) -> None:
        message = f"{limit} calls of this connection are under way: wait for an answer before the next."
        super().__init__(message, retry_after_ms=100, limit=limit)


class RateLimited(RpcError):
    """Too many calls or failed attempts; try again after `data.retry_after_ms`."""

    code = kind = "RATE_LIMITED"
    is_retryable = True

    def __init__(self, wait_s: float, message: str = "Too many calls: slow down.") -> None:
        super().__init__(message, retry_after_ms=max(1, round(wait_s * 1000)))


class TooManyConnections(RpcError):
    """The user has as many connections as allowed: close one."""

    code = "BUSY"
    kind = "TOO_MANY_CONNECTIONS"

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(f"There are {limit} connections of {whose}, the most allowed: close one first.", limit=limit)


class TooManySubscriptions(RpcError):
    """The connection has as many subscriptions as it may."""

    code = kind = "TOO_MANY_SUBSCRIPTIONS"

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(f"{whose} {limit} subscriptions, the most allowed: unsubscribe one first.", limit=limit)


class ShuttingDown(RpcError):
    """The server is shutting down. Connect again in a moment."""

    code = kind = "SHUTTING_DOWN"
    is_retryable = True

    def __init__(self) -> None:
        super().__init__("The server is restarting: connect again in a moment.", retry_after_ms=1000)


class Maintenance(RpcError):
    """The operator has stopped the service; see `data.retry_after_ms`."""

    code = "SHUTTING_DOWN"
    kind = "MAINTENANCE"
    is_retryable = True

    def __init__(self, message: str, retry_after_ms: int) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)


class KeyConflict(RpcError):
    """The key was used for another method or other params."""

    code = kind = "IDEMPOTENCY_CONFLICT"

    def __init__(self) -> None:
        super().__init__(
            "This idempotency key was used for another method or other params: take a new key for a new call."
        )


class OutcomeUnknown(RpcError):
    """The server stopped while the call under this key ran."""

    code = "IDEMPOTENCY_CONFLICT"
    kind = "OUTCOME_UNKNOWN"

    def __init__(self) -> None:
        super().__init__(
            "The server stopped while the call ran: look what became of it, then call again with a new key."
        )


class AnswerNotKept(RpcError):
    """The call under this key was made; its answer held a secret, shown once."""

    code = "CONFLICT"
    kind = "ANSWER_NOT_KEPT"

    def __init__(self) -> None:
        super().__init__("The call was made, and its answer was shown once: it holds a secret that is kept nowhere.")


class InvalidCursor(RpcError):
    """The cursor is not of this list and these arguments: begin again without."""

    code = "INVALID_PARAMS"
    kind = "INVALID_CURSOR"

    def __init__(self) -> None:
        super().__init__("The cursor does not belong to this list and these arguments: begin again without a cursor.")


class SessionNotFound(RpcError):
    """No such session, or not the caller's."""

    code = "NOT_FOUND"
    kind = "SESSION_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"No session {session_id[:80]!r} of yours. sessions.list names yours.")


class SessionNotReady(RpcError):
    """The session is being made or destroyed."""

    code = "CONFLICT"
    kind = "SESSION_NOT_READY"

    def __init__(self, session_id: str, state: str) -> None:
        message = f"The session is {state}: wait, or destroy it and create another."
        super().__init__(message, is_retryable=state == "creating", session_id=session_id, state=state)


class SessionNameTaken(RpcError):
    """The user has a session of that name in that context."""

    code = "CONFLICT"
    kind = "SESSION_NAME_TAKEN"

    def __init__(self, name: str) -> None:
        super().__init__(f"You have a session named {name!r} here: choose another name.", name=name)


class SessionLimit(RpcError):
    """The user has as many sessions as allowed: destroy one."""

    code = "BUSY"
    kind = "SESSION_LIMIT"

    def __init__(self, limit: int) -> None:
        super().__init__(f"You have {limit} sessions, the most allowed: destroy one first.", limit=limit)


class RevisionConflict(RpcError):
    """The session was changed since the caller looked; `data.revision` is current."""

    code = "CONFLICT"
    kind = "REVISION_CONFLICT"

    def __init__(self, revision: int) -> None:
        message = "The session was changed since you looked: call session.get and decide again."
        super().__init__(message, revision=revision)


class NotInPallet(RpcError):
    """The command is not offered here now; `data.commands` are."""

    code = "NOT_FOUND"
    kind = "NOT_IN_PALLET"

    def __init__(self, token_id: str, version: int, commands: list[dict[str, Any]]) -> None:
        message = f"No command {token_id[:80]!r} here now: choose one of data.commands."
        super().__init__(message, pallet_version=version, commands=commands)


class JobNotFailed(RpcError):
    """Only a job that failed, was cancelled or lost can be retried."""

    code = "CONFLICT"
    kind = "JOB_NOT_FAILED"

    def __init__(self, state: str) -> None:
        message = f"The job is {state}: only one that failed, was cancelled or lost can be retried."
        super().__init__(message, state=state)


class CoderootRefused(RpcError):
    """The coderoot lies outside the folders the operator allowed."""

    code = "FORBIDDEN"
    kind = "CODEROOT_REFUSED"


class PlaybookTooLarge(RpcError):
    """The playbook, or what becomes of an action, is larger than allowed: split it."""

    code = "INVALID_PARAMS"
    kind = "PLAYBOOK_TOO_LARGE"


class UnknownAction(RpcError):
    """No plugin plays an action; `data.mistakes` names each, with near names."""

    code = "INVALID_PARAMS"
    kind = "UNKNOWN_ACTION"


class PlayRunning(RpcError):
    """The session's playbook is being played, by the job `data.job_id`."""

    code = "CONFLICT"
    kind = "PLAY_RUNNING"

    def __init__(self, job_id: str) -> None:
        super().__init__("The session's playbook is being played: wait for that job, or cancel it.", job_id=job_id)
