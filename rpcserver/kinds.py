"""Every kind of error a client can be answered with: its code and what it means. Described by rpc.discover.

`errors` raises and maps; this says, for people and programs, what there is. A test compares the two.
Source: protocol.md 6, sessions.md 2.14.
"""

import inspect

from rpcserver import errors as e

# What the edge itself raises: kind -> (code, what it means and what to do).
RAISED: dict[str, tuple[int, str]] = {
    "PARSE_ERROR": (e.PARSE_ERROR, "The message is not JSON."),
    "INVALID_REQUEST": (e.INVALID_REQUEST, "The item is not JSON-RPC 2.0; `data.reason` says where."),
    "METHOD_NOT_FOUND": (e.METHOD_NOT_FOUND, "There is no such method; `data.reason` names near ones."),
    "INVALID_PARAMS": (e.INVALID_PARAMS, "The params do not fit the method; nothing ran. `data.errors` names each."),
    "INTERNAL": (e.INTERNAL, "The server failed; `data.ref` stands in its log."),
    "TIMED_OUT": (e.TIMED_OUT, "The call took longer than its deadline and was stopped."),
    "WAITING_INPUT": (e.TIMED_OUT, "A person is asked longer than the call waits: the job `data.job_id` goes on."),
    "UNAUTHENTICATED": (e.UNAUTHENTICATED, "The call needs a credential that is valid."),
    "SCOPE_TOO_WIDE": (e.FORBIDDEN, "A credential makes none that reaches further than itself."),
    "CREDENTIAL_LIMIT": (e.BUSY, "There are as many credentials in the user's name as allowed: revoke one."),
    "NOT_RENEWABLE": (e.FORBIDDEN, "The credential ends when it ends."),
    "TICKET_SPENT": (e.UNAUTHENTICATED, "The ticket was used, or is too old: have another made."),
    "CREDENTIAL_NOT_FOUND": (e.NOT_FOUND, "No such credential, or not the caller's."),
    "RATE_LIMITED": (e.RATE_LIMITED, "Too many calls or failed attempts; try again after `data.retry_after_ms`."),
    "IDEMPOTENCY_CONFLICT": (e.IDEMPOTENCY_CONFLICT, "The key was used for another method or other params."),
    "OUTCOME_UNKNOWN": (e.IDEMPOTENCY_CONFLICT, "The server stopped while the call under this key ran."),
    "ANSWER_NOT_KEPT": (e.CONFLICT, "The call under this key was made; its answer held a secret, shown once."),
    "MAINTENANCE": (e.SHUTTING_DOWN, "The operator has stopped the service; see `data.retry_after_ms`."),
    "FORBIDDEN": (e.FORBIDDEN, "The credential's scopes, or the owner of the thing, do not allow it."),
    "SESSION_NOT_FOUND": (e.NOT_FOUND, "No such session, or not the caller's."),
    "NOT_IN_PALLET": (e.NOT_FOUND, "The command is not offered here now; `data.commands` are."),
    "TOO_MANY_SUBSCRIPTIONS": (e.TOO_MANY_SUBSCRIPTIONS, "The connection has as many subscriptions as it may."),
    "REQUEST_TOO_LARGE": (e.REQUEST_TOO_LARGE, "The message is over the limit before authentication."),
    "RESPONSE_TOO_LARGE": (e.RESPONSE_TOO_LARGE, "The answer is over the limit: ask for less at a time."),
    "BUSY": (e.BUSY, "Too much of the caller's is under way or waits; try again after `data.retry_after_ms`."),
    "TOO_MANY_CONNECTIONS": (e.BUSY, "The user has as many connections as allowed: close one."),
    "SESSION_LIMIT": (e.BUSY, "The user has as many sessions as allowed: destroy one."),
    "QUOTA_EXCEEDED": (
        e.BUSY,
        "The user keeps as much as allowed; `data.limit` names the limit, `data.used` how much.",
    ),
    "BATCH_TOO_LARGE": (e.BATCH_TOO_LARGE, "The batch holds more items than allowed: send it in parts."),
    "SESSION_NOT_READY": (e.CONFLICT, "The session is being made or destroyed."),
    "SESSION_NAME_TAKEN": (e.CONFLICT, "The user has a session of that name in that context."),
    "REVISION_CONFLICT": (e.CONFLICT, "The session was changed since the caller looked; `data.revision` is current."),
    "JOB_NOT_FAILED": (e.CONFLICT, "Only a job that failed, was cancelled or lost can be retried."),
    "CODEROOT_REFUSED": (e.FORBIDDEN, "The coderoot lies outside the folders the operator allowed."),
    "PLAYBOOK_TOO_LARGE": (
        e.INVALID_PARAMS,
        "The playbook, or what becomes of an action, is larger than allowed: split it.",
    ),
    "UNKNOWN_ACTION": (e.INVALID_PARAMS, "No plugin plays an action; `data.mistakes` names each, with near names."),
    "PLAY_RUNNING": (e.CONFLICT, "The session's playbook is being played, by the job `data.job_id`."),
    "INVALID_CURSOR": (e.INVALID_PARAMS, "The cursor is not of this list and these arguments: begin again without."),
    "CANCELLED": (e.CANCELLED, "The caller cancelled the call."),
    "SERVER_CANCELLED": (e.SERVER_CANCELLED, "The server stopped the call, as when it shuts down."),
}

# Every kind: those of the rooms behind the edge are told in the words of their classes.
KINDS: dict[str, tuple[int, str]] = {
    **{
        kind: (code, inspect.cleandoc(error.__doc__ or "").partition("\n")[0])
        for error, (code, kind, _) in e.TABLE.items()
    },
    **RAISED,
}

# The names of the codes: several kinds share one.
CODES: dict[int, str] = {code: name for name, code in vars(e).items() if name.isupper() and isinstance(code, int)}

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
CORE = tuple(dict.fromkeys(kind for error, (_, kind, _) in e.TABLE.items() if error.__module__ == "core.errors"))
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
