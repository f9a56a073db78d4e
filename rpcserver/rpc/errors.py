"""The one map from what went wrong to what the client is told. Only this module knows codes.

Every error object carries `data = {kind, retryable, ...}`. The text of an unforeseen exception never leaves: the
client gets a `ref` that stands in the log. Source: protocol.md 6, sessions.md 2.14.
"""

import inspect
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from core import errors as core
from heroscript import errors as play
from jobs import errors as jobs
from plugins.errors import PluginError, printable
from store import errors as store
from store import new_id

log = structlog.get_logger("rpc")

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL = -32603
TIMED_OUT = -32001
UNAUTHENTICATED = -32002
FORBIDDEN = -32003
NOT_FOUND = -32004
TOO_MANY_SUBSCRIPTIONS = -32006
REQUEST_TOO_LARGE = -32007
RESPONSE_TOO_LARGE = -32008
BUSY = -32009
BATCH_TOO_LARGE = -32010
RATE_LIMITED = -32012
REFUSED = -32014
IDEMPOTENCY_CONFLICT = -32015
SHUTTING_DOWN = -32016
CONFLICT = -32017
DECLINED = -32018
JOB_FAILED = -32019
CANCELLED = -32800
SERVER_CANCELLED = -32802


@dataclass(frozen=True, slots=True)
class ErrorObject:
    """A JSON-RPC error object."""

    code: int
    message: str
    data: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the object as it goes over the wire."""
        return {"code": self.code, "message": self.message, "data": self.data}


class RpcError(Exception):
    """An error the edge itself raises, with its place in the table."""

    def __init__(self, code: int, kind: str, message: str, *, is_retryable: bool = False, **details: Any) -> None:
        self.code = code
        self.kind = kind
        self.message = message
        self.is_retryable = is_retryable
        self.details = details
        super().__init__(message)


class Unauthenticated(RpcError):
    """The call needs a credential."""

    def __init__(self, message: str = "Authenticate first: call auth.authenticate with a credential.") -> None:
        super().__init__(UNAUTHENTICATED, "UNAUTHENTICATED", message)


class Busy(RpcError):
    """The connection has as many calls under way as it may have."""

    def __init__(self, limit: int) -> None:
        message = f"{limit} calls of this connection are under way: wait for an answer before the next."
        super().__init__(BUSY, "BUSY", message, is_retryable=True, retry_after_ms=100, limit=limit)


class ShuttingDown(RpcError):
    """The server stops."""

    def __init__(self) -> None:
        message = "The server is restarting: connect again in a moment."
        super().__init__(SHUTTING_DOWN, "SHUTTING_DOWN", message, is_retryable=True, retry_after_ms=1000)


class InvalidParams(RpcError):
    """The params do not fit the method."""

    def __init__(self, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(INVALID_PARAMS, "INVALID_PARAMS", "Invalid params", reason=message, errors=errors or [])


class SessionNotFound(RpcError):
    """There is no such session, or it is not the caller's."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            NOT_FOUND, "SESSION_NOT_FOUND", f"No session {session_id[:80]!r} of yours. sessions.list names yours."
        )


class SessionNotReady(RpcError):
    """The session is being made or destroyed."""

    def __init__(self, session_id: str, state: str) -> None:
        super().__init__(
            CONFLICT,
            "SESSION_NOT_READY",
            f"The session is {state}: wait, or destroy it and create another.",
            is_retryable=state == "creating",
            session_id=session_id,
            state=state,
        )


class SessionNameTaken(RpcError):
    """The user has a session of that name in that context."""

    def __init__(self, name: str) -> None:
        super().__init__(
            CONFLICT, "SESSION_NAME_TAKEN", f"You have a session named {name!r} here: choose another name.", name=name
        )


class SessionLimit(RpcError):
    """The user has as many sessions as he may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            BUSY, "SESSION_LIMIT", f"You have {limit} sessions, the most allowed: destroy one first.", limit=limit
        )


class RevisionConflict(RpcError):
    """The session was changed since the caller looked."""

    def __init__(self, revision: int) -> None:
        super().__init__(
            CONFLICT,
            "REVISION_CONFLICT",
            "The session was changed since you looked: call session.get and decide again.",
            revision=revision,
        )


class InvalidCursor(RpcError):
    """The cursor is not one of ours for this list."""

    def __init__(self) -> None:
        super().__init__(
            INVALID_PARAMS,
            "INVALID_CURSOR",
            "The cursor does not belong to this list and these arguments: begin again without a cursor.",
        )


class NotInPallet(RpcError):
    """The command is not in the session's current pallet."""

    def __init__(self, token_id: str, version: int, commands: list[dict[str, Any]]) -> None:
        super().__init__(
            NOT_FOUND,
            "NOT_IN_PALLET",
            f"No command {token_id[:80]!r} here now: choose one of data.commands.",
            pallet_version=version,
            commands=commands,
        )


# Exception class -> (code, kind, retryable). Looked up along the class's ancestors, so the nearest entry wins.
TABLE: dict[type[BaseException], tuple[int, str, bool]] = {
    core.SetNotFound: (NOT_FOUND, "SET_NOT_FOUND", False),
    core.TokenNotFound: (NOT_FOUND, "TOKEN_NOT_FOUND", False),
    core.UserNotFound: (NOT_FOUND, "USER_NOT_FOUND", False),
    core.GroupNotFound: (NOT_FOUND, "GROUP_NOT_FOUND", False),
    core.TypeNotFound: (NOT_FOUND, "TYPE_NOT_FOUND", False),
    core.AttributeNotFound: (NOT_FOUND, "ATTRIBUTE_NOT_FOUND", False),
    core.ScriptNotFound: (NOT_FOUND, "SCRIPT_NOT_FOUND", False),
    core.RemoteNotFound: (NOT_FOUND, "REMOTE_NOT_FOUND", False),
    core.ActivityNotFound: (NOT_FOUND, "ACTIVITY_NOT_FOUND", False),
    core.RuleNotFound: (NOT_FOUND, "RULE_NOT_FOUND", False),
    core.GiftNotFound: (NOT_FOUND, "GIFT_NOT_FOUND", False),
    core.NotWritable: (FORBIDDEN, "FORBIDDEN", False),
    core.AttributeNotWritable: (FORBIDDEN, "ATTRIBUTE_NOT_WRITABLE", False),
    core.AttributeNotReadable: (FORBIDDEN, "ATTRIBUTE_NOT_READABLE", False),
    core.BadValue: (INVALID_PARAMS, "BAD_VALUE", False),
    core.BadAttribute: (INVALID_PARAMS, "BAD_ATTRIBUTE", False),
    core.BadRule: (INVALID_PARAMS, "BAD_RULE", False),
    core.BadScript: (INVALID_PARAMS, "BAD_SCRIPT", False),
    core.BadRemote: (INVALID_PARAMS, "BAD_REMOTE", False),
    core.TypeClosed: (CONFLICT, "TYPE_CLOSED", False),
    core.SourceClosed: (CONFLICT, "SOURCE_CLOSED", False),
    core.ChecksumMismatch: (CONFLICT, "CHECKSUM_MISMATCH", False),
    core.PassageChanged: (CONFLICT, "PASSAGE_CHANGED", True),
    core.EventRefused: (REFUSED, "EVENT_REFUSED", False),
    core.EnterRefused: (REFUSED, "ENTER_REFUSED", False),
    core.LeaveRefused: (REFUSED, "LEAVE_REFUSED", False),
    core.SetCycle: (CONFLICT, "SET_CYCLE", False),
    core.SetNotEmpty: (CONFLICT, "SET_NOT_EMPTY", False),
    core.AlreadyMember: (CONFLICT, "ALREADY_MEMBER", False),
    core.NotMember: (CONFLICT, "NOT_MEMBER", False),
    core.TokenInUse: (CONFLICT, "TOKEN_IN_USE", False),
    core.TooMany: (CONFLICT, "TOO_MANY", False),
    core.QuotaExceeded: (BUSY, "QUOTA_EXCEEDED", False),
    core.StillUsed: (CONFLICT, "STILL_USED", False),
    core.NameTaken: (CONFLICT, "NAME_TAKEN", False),
    core.BadName: (INVALID_PARAMS, "BAD_NAME", False),
    core.UndeclaredCall: (JOB_FAILED, "UNDECLARED_CALL", False),
    core.OwnGroup: (CONFLICT, "OWN_GROUP", False),
    jobs.UnknownFunction: (NOT_FOUND, "FUNCTION_NOT_FOUND", False),
    jobs.BadJobData: (INVALID_PARAMS, "BAD_JOB_DATA", False),
    jobs.JobNotFound: (NOT_FOUND, "JOB_NOT_FOUND", False),
    jobs.JobTimeout: (TIMED_OUT, "JOB_TIMEOUT", True),
    jobs.JobFailed: (JOB_FAILED, "JOB_FAILED", False),
    jobs.BadWorld: (INVALID_PARAMS, "BAD_WORLD", False),
    jobs.ScriptFailed: (JOB_FAILED, "SCRIPT_FAILED", False),
    jobs.ScriptLimit: (JOB_FAILED, "SCRIPT_LIMIT", True),
    jobs.ScriptsUnavailable: (JOB_FAILED, "SCRIPTS_UNAVAILABLE", False),
    jobs.RemoteUnavailable: (JOB_FAILED, "REMOTE_UNAVAILABLE", True),
    jobs.AttributePending: (CONFLICT, "ATTRIBUTE_PENDING", True),
    jobs.NotAllowed: (FORBIDDEN, "FORBIDDEN", False),
    jobs.CredentialRevoked: (UNAUTHENTICATED, "CREDENTIAL_REVOKED", False),
    jobs.CredentialExpired: (UNAUTHENTICATED, "CREDENTIAL_EXPIRED", False),
    jobs.AccountFrozen: (UNAUTHENTICATED, "ACCOUNT_FROZEN", False),
    jobs.CallsSpentForNow: (RATE_LIMITED, "CALLS_SPENT_FOR_NOW", True),
    jobs.CallsSpent: (FORBIDDEN, "CALLS_SPENT", False),
    jobs.JobError: (JOB_FAILED, "JOB_FAILED", False),
    jobs.DataHidden: (CONFLICT, "JOB_DATA_HIDDEN", False),
    jobs.JobCancelled: (CANCELLED, "CANCELLED", False),
    jobs.ResultTooLarge: (RESPONSE_TOO_LARGE, "RESULT_TOO_LARGE", False),
    jobs.TooManyJobs: (BUSY, "JOB_LIMIT", True),
    jobs.TooDeep: (JOB_FAILED, "TOO_DEEP", False),
    jobs.AskDeclined: (DECLINED, "ASK_DECLINED", False),
    jobs.AskNotFound: (NOT_FOUND, "ASK_NOT_FOUND", False),
    jobs.BadAnswer: (INVALID_PARAMS, "BAD_ANSWER", False),
    jobs.BadSchedule: (INVALID_PARAMS, "BAD_SCHEDULE", False),
    jobs.ScheduleNotFound: (NOT_FOUND, "SCHEDULE_NOT_FOUND", False),
    jobs.TooManySchedules: (BUSY, "SCHEDULE_LIMIT", False),
    jobs.BadApprover: (INVALID_PARAMS, "BAD_APPROVER", False),
    play.ParseError: (INVALID_PARAMS, "BAD_SCRIPT", False),
    play.ParamError: (INVALID_PARAMS, "BAD_PARAM", False),
    play.TooLarge: (INVALID_PARAMS, "PLAYBOOK_TOO_LARGE", False),
    play.SourceError: (NOT_FOUND, "SOURCE_UNREADABLE", False),
    play.MissingKey: (NOT_FOUND, "KEY_NOT_FOUND", False),
    play.BadKey: (INVALID_PARAMS, "BAD_KEY", False),
    play.BadSecret: (FORBIDDEN, "BAD_SECRET", False),
    play.SealingUnavailable: (CONFLICT, "SEALING_UNAVAILABLE", False),
    play.StoreError: (CONFLICT, "KEYS_REFUSED", False),
    play.PlayError: (INVALID_PARAMS, "BAD_SCRIPT", False),
    store.StoreFull: (BUSY, "STORAGE_FULL", True),
    store.StoreFailed: (BUSY, "STORAGE_FAILED", False),
    store.NoDescriptors: (BUSY, "NO_DESCRIPTORS", True),
    store.BackupError: (CONFLICT, "BACKUP_FAILED", False),
    store.PoolBusy: (BUSY, "BUSY", True),
    store.PoolLate: (TIMED_OUT, "STILL_RUNNING", False),
    store.StoreClosed: (SHUTTING_DOWN, "SHUTTING_DOWN", True),
    PluginError: (REFUSED, "PLUGIN_ERROR", False),
}
_TOLD = slice(1000)  # of a script's mistakes
_DETAILS = (
    "set_id",
    "set_name",
    "rule",
    "refusals",
    "event",
    "token_id",
    "job_id",
    "function",
    "call",
    "ref",
    "errors",
    "plugin",
    "hook",
    "attribute",
    "reason",
    "revision",
    "limit",
    "most",
    "used",
    "activity_id",
    "retry_after_ms",
    "place",
    "credential_id",
)


def describe(error: BaseException) -> ErrorObject:
    """Return what a client is told of an error, logging what it is not told."""
    if isinstance(error, RpcError):
        data = {"kind": error.kind, "retryable": error.is_retryable, **error.details}
        return ErrorObject(error.code, error.message, data)
    if (
        isinstance(error, PluginError)
        and error.cause is not None
        and (_entry(error.cause) or isinstance(error.cause, RpcError))
    ):
        # The guest only passed on what a job of its own ran into: that is the answer, with the guest's name.
        inner = describe(error.cause)
        return ErrorObject(inner.code, inner.message, {**inner.data, "plugin": error.plugin})
    if isinstance(error, jobs.JobEnded):
        # What the job's row says, told again.
        kept = {name: value for name, value in error.error.items() if name not in ("code", "message")}
        data = {"kind": "JOB_FAILED", "retryable": False, **kept, "job_id": error.job_id}
        return ErrorObject(error.error.get("code", JOB_FAILED), str(error), data)
    error = store.named(error)  # a full disk is one whatever met it
    entry = _entry(error)
    if entry is None:
        return _unforeseen(error)
    if isinstance(error, store.StoreFailed):
        log.error("storage_failed", reason=str(error.__cause__ or error))
    code, kind, is_retryable = entry
    data = {"kind": kind, "retryable": is_retryable}
    if isinstance(error, play.ParseError):
        data["mistakes"] = [asdict(mistake) for mistake in error.mistakes[_TOLD]]
    for name in _DETAILS:
        value = getattr(error, name, None)
        if value is not None:
            data[name] = value
    return ErrorObject(code, printable(error), data)


def describe_for_job(error: BaseException) -> dict[str, Any]:
    """Return `{kind, message, code, ...}` as a job's row keeps it."""
    if isinstance(error, BaseException) and type(error).__name__ == "CancelledError":
        return {"kind": "CANCELLED", "message": "The job was cancelled.", "code": CANCELLED}
    described = describe(error)
    return {"message": described.message, "code": described.code, **described.data}


def _entry(error: BaseException) -> tuple[int, str, bool] | None:
    return next((TABLE[cls] for cls in type(error).__mro__ if cls in TABLE), None)


def _unforeseen(error: BaseException) -> ErrorObject:
    ref = new_id("r_")
    log.error("call_failed", ref=ref, exc_info=error)
    return ErrorObject(
        INTERNAL,
        "Internal error",
        {"kind": "INTERNAL", "retryable": False, "ref": ref, "reason": f"The server's log says why, under {ref}."},
    )


# What the edge itself raises: kind -> (code, what it means and what to do).
RAISED: dict[str, tuple[int, str]] = {
    "PARSE_ERROR": (PARSE_ERROR, "The message is not JSON."),
    "INVALID_REQUEST": (INVALID_REQUEST, "The item is not JSON-RPC 2.0; `data.reason` says where."),
    "METHOD_NOT_FOUND": (METHOD_NOT_FOUND, "There is no such method; `data.reason` names near ones."),
    "INVALID_PARAMS": (INVALID_PARAMS, "The params do not fit the method; nothing ran. `data.errors` names each."),
    "INTERNAL": (INTERNAL, "The server failed; `data.ref` stands in its log."),
    "TIMED_OUT": (TIMED_OUT, "The call took longer than its deadline and was stopped."),
    "WAITING_INPUT": (TIMED_OUT, "A person is asked longer than the call waits: the job `data.job_id` goes on."),
    "UNAUTHENTICATED": (UNAUTHENTICATED, "The call needs a credential that is valid."),
    "SCOPE_TOO_WIDE": (FORBIDDEN, "A credential makes none that reaches further than itself."),
    "CREDENTIAL_LIMIT": (BUSY, "There are as many credentials in the user's name as allowed: revoke one."),
    "NOT_RENEWABLE": (FORBIDDEN, "The credential ends when it ends."),
    "TICKET_SPENT": (UNAUTHENTICATED, "The ticket was used, or is too old: have another made."),
    "CREDENTIAL_NOT_FOUND": (NOT_FOUND, "No such credential, or not the caller's."),
    "RATE_LIMITED": (RATE_LIMITED, "Too many calls or failed attempts; try again after `data.retry_after_ms`."),
    "IDEMPOTENCY_CONFLICT": (IDEMPOTENCY_CONFLICT, "The key was used for another method or other params."),
    "OUTCOME_UNKNOWN": (IDEMPOTENCY_CONFLICT, "The server stopped while the call under this key ran."),
    "ANSWER_NOT_KEPT": (CONFLICT, "The call under this key was made; its answer held a secret, shown once."),
    "MAINTENANCE": (SHUTTING_DOWN, "The operator has stopped the service; see `data.retry_after_ms`."),
    "FORBIDDEN": (FORBIDDEN, "The credential's scopes, or the owner of the thing, do not allow it."),
    "SESSION_NOT_FOUND": (NOT_FOUND, "No such session, or not the caller's."),
    "NOT_IN_PALLET": (NOT_FOUND, "The command is not offered here now; `data.commands` are."),
    "TOO_MANY_SUBSCRIPTIONS": (TOO_MANY_SUBSCRIPTIONS, "The connection has as many subscriptions as it may."),
    "REQUEST_TOO_LARGE": (REQUEST_TOO_LARGE, "The message is over the limit before authentication."),
    "RESPONSE_TOO_LARGE": (RESPONSE_TOO_LARGE, "The answer is over the limit: ask for less at a time."),
    "BUSY": (BUSY, "Too much of the caller's is under way or waits; try again after `data.retry_after_ms`."),
    "TOO_MANY_CONNECTIONS": (BUSY, "The user has as many connections as allowed: close one."),
    "SESSION_LIMIT": (BUSY, "The user has as many sessions as allowed: destroy one."),
    "QUOTA_EXCEEDED": (
        BUSY,
        "The user keeps as much as allowed; `data.limit` names the limit, `data.used` how much.",
    ),
    "BATCH_TOO_LARGE": (BATCH_TOO_LARGE, "The batch holds more items than allowed: send it in parts."),
    "SESSION_NOT_READY": (CONFLICT, "The session is being made or destroyed."),
    "SESSION_NAME_TAKEN": (CONFLICT, "The user has a session of that name in that context."),
    "REVISION_CONFLICT": (CONFLICT, "The session was changed since the caller looked; `data.revision` is current."),
    "JOB_NOT_FAILED": (CONFLICT, "Only a job that failed, was cancelled or lost can be retried."),
    "CODEROOT_REFUSED": (FORBIDDEN, "The coderoot lies outside the folders the operator allowed."),
    "PLAYBOOK_TOO_LARGE": (
        INVALID_PARAMS,
        "The playbook, or what becomes of an action, is larger than allowed: split it.",
    ),
    "UNKNOWN_ACTION": (INVALID_PARAMS, "No plugin plays an action; `data.mistakes` names each, with near names."),
    "PLAY_RUNNING": (CONFLICT, "The session's playbook is being played, by the job `data.job_id`."),
    "INVALID_CURSOR": (INVALID_PARAMS, "The cursor is not of this list and these arguments: begin again without."),
    "CANCELLED": (CANCELLED, "The caller cancelled the call."),
    "SERVER_CANCELLED": (SERVER_CANCELLED, "The server stopped the call, as when it shuts down."),
}

# Every kind: those of the rooms behind the edge are told in the words of their classes.
KINDS: dict[str, tuple[int, str]] = {
    **{
        kind: (code, inspect.cleandoc(error.__doc__ or "").partition("\n")[0])
        for error, (code, kind, _) in TABLE.items()
    },
    **RAISED,
}

# The names of the codes: several kinds share one.
CODES: dict[int, str] = {
    code: name for name, code in tuple(globals().items()) if name.isupper() and isinstance(code, int)
}

# What any call can be answered with, besides what its method declares.
ANY_CALL = (
    "INVALID_PARAMS",
    "BUSY",
    "TIMED_OUT",
    "WAITING_INPUT",
    "CANCELLED",
    "SERVER_CANCELLED",
    "SHUTTING_DOWN",
    "MAINTENANCE",
    "RATE_LIMITED",
    "RESPONSE_TOO_LARGE",
    "INTERNAL",
)
AUTHENTICATED_CALL = (
    "UNAUTHENTICATED",
    "CREDENTIAL_EXPIRED",
    "CREDENTIAL_REVOKED",
    "ACCOUNT_FROZEN",
    "FORBIDDEN",
    "CALLS_SPENT",
    "CALLS_SPENT_FOR_NOW",
)

# What several methods share.
STORAGE = ("STORAGE_FULL", "STORAGE_FAILED", "NO_DESCRIPTORS")
JOB = (*STORAGE, "JOB_FAILED", "JOB_TIMEOUT")
RUN = (
    *JOB,
    "FUNCTION_NOT_FOUND",
    "BAD_JOB_DATA",
    "JOB_LIMIT",
    "RESULT_TOO_LARGE",
    "TOO_DEEP",
    "ASK_DECLINED",
    "UNDECLARED_CALL",
)
SESSION = ("SESSION_NOT_FOUND", "SESSION_NOT_READY")
CORE = tuple(dict.fromkeys(kind for error, (_, kind, _) in TABLE.items() if error.__module__ == "core.errors"))
LOOK = (*JOB, *SESSION, "SET_NOT_FOUND", "ENTER_REFUSED")
SCRIPT = (
    *RUN,
    *SESSION,
    "BAD_SCRIPT",
    "SOURCE_UNREADABLE",
    "PLAYBOOK_TOO_LARGE",
    "CODEROOT_REFUSED",
    "QUOTA_EXCEEDED",
    "SEALING_UNAVAILABLE",
)
KEYS_READ = (*STORAGE, "SESSION_NOT_FOUND", "KEY_NOT_FOUND", "BAD_KEY", "BAD_SECRET", "SEALING_UNAVAILABLE")
KEYS_LIST = (*KEYS_READ, "INVALID_CURSOR")
KEYS_WRITE = (*KEYS_READ, "KEYS_REFUSED", "QUOTA_EXCEEDED")
