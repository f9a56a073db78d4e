"""What a client is told of an error: code, kind and words stand on its class. Only this module knows codes' numbers.

Every error object carries `data = {kind, retryable, ...}`. The text of an unforeseen exception never leaves: the
client gets a `ref` that stands in the log. Source: protocol.md 6, sessions.md 2.14.
"""

import inspect
from asyncio import CancelledError
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any, TypeGuard, get_args

import structlog

from core.errors import CoreError
from heroscript.errors import ParseError, PlayError
from jobs.errors import JobEnded, JobsError
from plugins.errors import PluginError, printable
from rpcserver.errors import Internal, RpcError
from store import PoolError, StoreError, StoreFailed, named, new_id

log = structlog.get_logger("rpc")


class Code(IntEnum):
    """The codes; several kinds share one."""

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


class Answered(RpcError):
    """The error that a call from inside was answered with."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.code = Code(answer["code"]).name
        details = dict(answer["data"])
        self.kind, is_retryable = details.pop("kind"), details.pop("retryable")
        super().__init__(answer["message"], is_retryable=is_retryable, **details)


Told = CoreError | JobsError | PlayError | StoreError | PoolError | PluginError | RpcError


def _has_kind(error: BaseException) -> TypeGuard[Told]:
    return isinstance(error, Told) and hasattr(error, "kind")


def catalogue(*roots: type[Told]) -> dict[str, tuple[Code, str]]:
    """Return every kind of errors below these classes, with its code and the first line of its class's docstring.

    Where several classes have one kind, the last one's words are told, and a parent's rather than its child's.
    """
    found: dict[str, tuple[Code, str]] = {}
    for cls in roots:
        found |= catalogue(*cls.__subclasses__())
        if "kind" in vars(cls):
            words = inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]
            found[vars(cls)["kind"]] = (Code[cls.code], words)
    return found


# Every kind there is.
KINDS = catalogue(*get_args(Told))

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
        told = {"kind": error.kind, "retryable": error.is_retryable, **error.details}
        return ErrorObject(Code[error.code].value, error.message, told)
    if isinstance(error, PluginError) and error.cause is not None and _has_kind(error.cause):
        # The plugin only passed on what a job of its own ran into: that is the answer, with the plugin's name.
        inner = describe(error.cause)
        return ErrorObject(inner.code, inner.message, {**inner.data, "plugin": error.plugin})
    if isinstance(error, JobEnded):
        # What the job's row says, told again.
        kept = {name: value for name, value in error.error.items() if name not in ("code", "message")}
        told = {"kind": "JOB_FAILED", "retryable": False, **kept, "job_id": error.job_id}
        return ErrorObject(error.error.get("code", Code.JOB_FAILED.value), str(error), told)
    error = named(error)  # a full disk is one whatever met it
    if not _has_kind(error):
        ref = new_id("r_")
        log.error("call_failed", ref=ref, exc_info=error)
        return describe(Internal(ref))
    if isinstance(error, StoreFailed):
        log.error("storage_failed", reason=str(error.__cause__ or error))
    data: dict[str, Any] = {"kind": error.kind, "retryable": error.is_retryable}
    if isinstance(error, ParseError):
        data["mistakes"] = [asdict(mistake) for mistake in error.mistakes[_TOLD]]
    for name in _DETAILS:
        value = getattr(error, name, None)
        if value is not None:
            data[name] = value
    return ErrorObject(Code[error.code].value, printable(error), data)


def describe_for_job(error: BaseException) -> dict[str, Any]:
    """Return `{kind, message, code, ...}` as a job's row keeps it."""
    if isinstance(error, CancelledError):
        return {"kind": "CANCELLED", "message": "The job was cancelled.", "code": Code.CANCELLED.value}
    described = describe(error)
    return {"message": described.message, "code": described.code, **described.data}


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
CORE = tuple(catalogue(CoreError))
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
