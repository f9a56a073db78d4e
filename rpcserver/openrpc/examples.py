"""Examples of calls, shown by rpc.discover and in the reference. A test makes each against a live server.

Ids are illustrations: the test puts real ones in their place.
"""

from typing import Any

from rpcserver.rpc.calls import Example

SESSION = "s_06gzfsm4hnvrg2fqt63za4d4"
USER = "u_06gzfsm4gwzbxwenp5hftygq"
USER_TOKEN = "t_06gzfsm4gwzbxwenp7b6399j"
HOME = "set_06gzfsm4gzt82q6qpgrtmk3j"
SHELF = "set_06gzfsm4gzt82q6qpq7ces0j"
PALLET = "set_06gzfsm4hzg9e84fz9qe21w0"
DATA = "set_06gzfsm4hzg9e84fz64pbrec"
JOB = "j_06gzfsm4jqjcdf3mrvkfasck"
FAILED_JOB = "j_06gzfsm4p1a2b3c4d5e6f7g8"
HELD_JOB = "j_06gzfsm4q1a2b3c4d5e6f7g8"
SCHEDULE = "sch_06gzfsm4r1a2b3c4d5e6f7g8"
ASK = "a_06gzfsm4s1a2b3c4d5e6f7g8"
SUBSCRIPTION = "sub_06gzfsm4k0a1b2c3d4e5f6g7"
EPOCH = "e_06gzfsm4d5k9e7yw6gtwwz15"
CREDENTIAL = "rpc_pZ0hCkQ3oWc1ZcJ9uYtq7xgk5dJbYx6mHn2LrV8sE4A"
CREDENTIAL_ID = "c_06gzfsm4t1a2b3c4d5e6f7g8"
TICKET_TEXT = "rpct_pZ0hCkQ3oWc1ZcJ9uYtq7xgk5dJbYx6mHn2LrV8sE4A"
AT = 1795160441997


_HOME = {
    "id": HOME,
    "set_name": "anna's home",
    "set_author": {"id": USER, "name": "anna"},
    "parent": None,
    "can_write": True,
}
_SHELF = {
    "id": SHELF,
    "set_name": "shelf",
    "set_author": {"id": USER, "name": "anna"},
    "parent": {"id": HOME, "set_name": "anna's home"},
    "can_write": True,
}
_ANNA: dict[str, Any] = {
    "id": USER_TOKEN,
    "name": "anna",
    "type": "user",
    "description": None,
    "image": None,
    "attributes": {},
    "links": [
        {
            "rel": "inspect",
            "method": "session.ls",
            "params": {"session_id": SESSION, "set_id": HOME, "token_id": USER_TOKEN},
        }
    ],
    "present": True,
}
_BACK = {
    "id": "navigation.back",
    "name": "Go back",
    "description": "to anna's home",
    "source": "navigation",
    "accepts": None,
    "sort": 11,
    "call": {"method": "session.action", "params": {"session_id": SESSION, "token_id": "navigation.back"}},
}
_SESSION = {
    "session_id": SESSION,
    "name": "work",
    "state": "active",
    "context_name": "default",
    "is_default": True,
    "core_user_id": USER,
    "layer_user_id": USER,
    "working_set": HOME,
    "command_pallet": PALLET,
    "session_data": DATA,
    "interactive": True,
    "params": {},
    "start": AT,
    "end": None,
    "revision": 1,
    "history_depth": 0,
    "options": {"human": False},
    "relocated_from": None,
    "created_at": AT,
    "last_used_at": AT,
}
_LISTING = {
    "session_id": SESSION,
    "revision": 1,
    "current_set": _HOME,
    "contents": {"tokens": [_ANNA], "next": None, "next_cursor": None},
    "pallet_version": 1,
    "commands": [],
}
_ARRIVAL = {
    "session_id": SESSION,
    "revision": 2,
    "current_set": _SHELF,
    "contents": {"tokens": [], "next": None, "next_cursor": None},
    "pallet_version": 1,
    "commands": [_BACK],
}
_JOB: dict[str, Any] = {
    "job_id": JOB,
    "function": "bookmarks.add",
    "state": "succeeded",
    "owner_id": USER,
    "session_id": SESSION,
    "parent_id": None,
    "retry_of": None,
    "attempts": 1,
    "priority": 0,
    "held": False,
    "cancelling": False,
    "run_at": None,
    "progress": None,
    "result": {"set_id": HOME, "name": "anna's home"},
    "error": None,
    "created_at": AT,
    "started_at": AT,
    "finished_at": AT + 1,
    "brought_by": [CREDENTIAL_ID],
}
_FUNCTION = {
    "name": "bookmarks.list",
    "doc": "Return the bookmarks by name: token id, set id and name.",
    "lane": "memory",
    "input": {"type": "object"},
    "output": {"type": "string"},
    "core_calls": ["core.set.child", "core.set.read"],
    "timeout_s": 30.0,
    "retries": 0,
    "backoff_s": 0.5,
    "on_crash": "fail",
    "limit": None,
    "internal": False,
}
_SCHEDULE: dict[str, Any] = {
    "schedule_id": SCHEDULE,
    "function": "bookmarks.add",
    "data": {"home_set_id": HOME, "set_id": SHELF},
    "session_id": None,
    "brought_by": [CREDENTIAL_ID],
    "cron": "0 8 * * 1-5",
    "timezone": "Europe/Brussels",
    "catch_up": False,
    "next_at": AT + 3600_000,
    "last_at": None,
    "last_job_id": None,
    "missed": 0,
    "created_at": AT,
}
_QUESTION = {
    "ask_id": ASK,
    "job_id": JOB,
    "session_id": None,
    "text": "Which colour?",
    "schema": None,
    "choices": ["red", "green"],
    "default": None,
    "secret": False,
    "expires_at": None,
    "created_at": AT,
}
_IDENTITY = {
    "user_id": USER,
    "name": "anna",
    "home_set": HOME,
    "credential_id": CREDENTIAL_ID,
    "label": "first credential",
    "holder": None,
    "scopes": ["*"],
    "expires_at": None,
}
_RECORD = {
    "credential_id": CREDENTIAL_ID,
    "user": "anna",
    "label": "first credential",
    "scopes": ["*"],
    "expires_at": None,
    "created_at": AT,
    "holder": None,
    "is_logged": False,
    "is_renewable": False,
    "max_calls": None,
    "calls_per_interval": None,
    "interval_s": None,
    "calls_made": 0,
    "calls_refused": 0,
}
_SERVER = {
    "version": "0.1.0",
    "protocol": "rpcserver.v1",
    "uptime_s": 12.5,
    "limits": {"max_message_bytes": 1048576, "max_batch_items": 100},
    "usage": {"max_tokens_per_user": {"used": 3, "most": 2000000}},
    "plugins": ["navigation", "bookmarks"],
    "left_out": [],
    "methods": ["server.ping"],
}
_OPENRPC = {
    "openrpc": "1.4.1",
    "info": {"title": "rpcserver", "version": "0.1.0"},
    "methods": [{"name": "server.ping", "params": []}],
    "components": {"schemas": {}, "errors": {}},
    "x-notifications": [],
    "x-meta": {},
}

CREATE = (Example("make a session called work", {"name": "work"}, {"session_id": SESSION}),)
DESTROY = (Example("destroy it", {"session_id": SESSION}, {"session_id": SESSION}),)
GET = (
    Example("read the record", {"session_id": SESSION}, _SESSION),
    Example("with the way it came", {"session_id": SESSION, "include": ["history"]}, {**_SESSION, "history": []}),
)
LS = (
    Example("list where the session stands", {"session_id": SESSION}, _LISTING),
    Example(
        "look into another set",
        {"session_id": SESSION, "set_id": SHELF, "limit": 10},
        {name: value for name, value in _ARRIVAL.items() if name not in ("pallet_version", "commands")},
    ),
)
CD = (
    Example("to a set by its id", {"session_id": SESSION, "set_id": SHELF}, _ARRIVAL),
    Example("home", {"session_id": SESSION, "to": "home"}, _LISTING),
)
ACTION = (
    Example(
        "bookmark the set",
        {"session_id": SESSION, "token_id": "bookmarks.add"},
        {
            "handled_by": "bookmarks",
            "response": {"bookmarks": {"set_id": HOME, "name": "anna's home"}},
            "pallet_version": 2,
            "commands": [],
        },
    ),
)
UPDATE = (
    Example(
        "give it another name",
        {"session_id": SESSION, "name": "reading", "if_revision": 1},
        {**_SESSION, "name": "reading", "revision": 2},
    ),
)
SESSIONS = (Example("all of them", {"limit": 50}, {"items": [_SESSION], "next_cursor": None}),)
JOB_GET = (Example("read the record", {"job_id": JOB}, {**_JOB, "data": {"home_set_id": HOME, "set_id": SHELF}}),)
JOB_RUN = (
    Example(
        "run it and wait",
        {"function": "bookmarks.list", "data": {"home_set_id": HOME}},
        {"job_id": JOB, "state": "succeeded", "result": []},
    ),
    Example(
        "only begin it",
        {"function": "bookmarks.add", "data": {"home_set_id": HOME, "set_id": SHELF}, "wait": False},
        {"job_id": JOB, "state": "queued"},
    ),
)
JOB_WAIT = (Example("until it has ended", {"job_id": JOB, "timeout_s": 10}, _JOB),)
JOB_CANCEL = (Example("one that had ended", {"job_id": JOB}, False),)
JOB_RETRY = (Example("one that failed", {"job_id": FAILED_JOB}, {"job_id": JOB}),)
JOB_RELEASE = (Example("one that waits for one's approval", {"job_id": HELD_JOB}, True),)
JOB_LOG = (Example("from its beginning", {"job_id": JOB}, {"lines": [], "next": 0, "state": "succeeded"}),)
JOB_SCHEDULE = (
    Example(
        "on every working day at eight",
        {
            "function": "bookmarks.add",
            "data": {"home_set_id": HOME, "set_id": SHELF},
            "cron": "0 8 * * 1-5",
            "timezone": "Europe/Brussels",
        },
        _SCHEDULE,
    ),
)
SCHEDULE_DELETE = (Example("take it away", {"schedule_id": SCHEDULE}, True),)
SCHEDULES = (Example("all of them", {}, {"items": [_SCHEDULE], "next_cursor": None}),)
STATS = (
    Example(
        "since the start",
        {},
        {"items": [{"function": "session.ls", "runs": 3, "errors": 0, "p50_ms": 0.4, "p99_ms": 0.9}]},
    ),
)
ASKS = (Example("what is open", {}, {"items": [_QUESTION], "next_cursor": None}),)
ANSWER = (Example("with one of the choices", {"ask_id": ASK, "answer": "red"}, True),)
JOBS = (Example("the newest", {"limit": 10}, {"items": [_JOB], "next_cursor": None}),)
FUNCTIONS = (Example("all of them", {}, {"items": [_FUNCTION]}),)
SUBSCRIBE = (
    Example(
        "whatever happens to sessions from now on",
        {"topics": ["session.*"]},
        {"subscription": SUBSCRIPTION, "epoch": EPOCH, "seq": 0},
    ),
    Example(
        "after a dropped connection",
        {"topics": ["*"], "since": {"epoch": EPOCH, "seq": 0}},
        {"subscription": SUBSCRIPTION, "epoch": EPOCH, "seq": 0, "recovered": True},
    ),
)
UNSUBSCRIBE = (Example("hear no more of it", {"subscription": SUBSCRIPTION}, True),)
AUTHENTICATE = (Example("with a credential", {"credential": CREDENTIAL}, _IDENTITY),)
WHOAMI = (Example("who am I", {}, _IDENTITY),)
TICKET = (Example("for a page", {}, {"ticket": TICKET_TEXT, "expires_at": AT + 30_000}),)
REFRESH = (Example("with another credential", {"credential": CREDENTIAL}, _IDENTITY),)
LOGOUT = (Example("close this connection", {}, True),)
CREDENTIALS = (Example("all of mine", {}, {"items": [_RECORD], "next_cursor": None}),)
CREDENTIAL_CREATE = (
    Example(
        "for an agent: twenty calls of two methods within an hour",
        {"label": "tidy up", "scopes": ["session.ls", "session.cd"], "expires_in_s": 3600.0, "max_calls": 20},
        {"credential_id": CREDENTIAL_ID, "credential": CREDENTIAL},
    ),
)
CREDENTIAL_REVOKE = (Example("no more of it", {"credential_id": CREDENTIAL_ID}, True),)
CREDENTIAL_LOG = (
    Example("what it was used for", {"credential_id": CREDENTIAL_ID}, {"items": [], "next_cursor": None}),
)
HISTORY = (Example("the last changes of my sessions", {"topics": ["session.*"]}, {"items": [], "next_cursor": None}),)
PRESENCE = (
    Example(
        "who is here with me",
        {"session_id": SESSION},
        {
            "session_id": SESSION,
            "items": [
                {
                    "connection": "w_06gzfsm4v1a2b3c4d5e6f7g8",
                    "client": "console",
                    "version": "0.1.0",
                    "type": "web",
                    "label": "first credential",
                    "holder": None,
                    "since": AT,
                    "is_me": True,
                }
            ],
        },
    ),
)
INFO = (Example("what is running there", {}, _SERVER),)
PING = (Example("is it there", {}, "pong"),)
IDENTIFY = (Example("a command line", {"client": "rpcserver call", "version": "0.1.0", "type": "cli"}, True),)
DISCOVER = (Example("what may be called", {}, _OPENRPC),)

# The calls of the core speak for themselves; these show the first steps.
CORE: dict[str, tuple[Example, ...]] = {
    "core.set.create": (Example("a shelf at home", {"name": "shelf", "parent_id": HOME}, SHELF),),
    "core.token.create": (
        Example("a note", {"type": "note", "name": "milk", "attributes": {"text": "two litres"}}, USER_TOKEN),
    ),
    "core.set.show": (
        Example(
            "one's home",
            {"set_id": HOME},
            {
                "id": HOME,
                "token_id": USER_TOKEN,
                "name": "anna's home",
                "owner_id": USER,
                "owner_name": "anna",
                "parent_id": None,
                "type": "set",
                "enter_policy": "readers",
                "rights": {"is_owner": True, "can_read": True, "can_write": True},
                "counts": None,
                "can_enter": None,
            },
        ),
    ),
    "core.group.create": (Example("a group", {"name": "friends"}, "g_06gzfsm4t1a2b3c4d5e6f7g8"),),
}


_ECHO: dict[str, Any] = {
    "number": 1,
    "action": "play.echo",
    "file": "",
    "line": 1,
    "state": "waiting",
    "handled_by": None,
    "result": None,
    "error": None,
    "ms": None,
}
_WRITTEN = {**_ECHO, "type": "sal", "params": {"content": "hello"}, "args": [], "priority": 99}
_CONTEXT = {"id": 0, "name": "default", "coderoot": None, "params": {}, "interactive": True, "created_at": AT}
_KEY = {"session_id": SESSION, "key": "colour"}
_PICTURE = "!!core.context_define name:default interactive:true\n\n!!core.session_define name:work interactive:true\n"

ADD = (
    Example(
        "a text of one action",
        {"session_id": SESSION, "text": "!!play.echo content:hello"},
        {"added": 1, "actions": [_WRITTEN]},
    ),
)
PRIORITIES = (
    Example(
        "repositories before everything else",
        {"session_id": SESSION, "priorities": {"10": "git.*,gittools.*"}},
        {"10": "git.*,gittools.*"},
    ),
)
FIND = (
    Example(
        "what is left of play.*",
        {"session_id": SESSION, "filter": "play.*"},
        {"items": [_WRITTEN], "next_cursor": None},
    ),
)
PICTURE = (Example("of a new session", {"session_id": SESSION}, _PICTURE),)
PLAY = (
    Example(
        "a text",
        {"session_id": SESSION, "text": "!!play.echo content:hello"},
        {
            "job_id": JOB,
            "done": 1,
            "failed": 0,
            "left": 0,
            "results": [{**_ECHO, "state": "done", "handled_by": "playbooks", "result": "hello", "ms": 1}],
        },
    ),
    Example(
        "who would play it",
        {"session_id": SESSION, "text": "!!play.echo content:hello", "dry_run": True},
        {
            "job_id": None,
            "done": 0,
            "failed": 0,
            "left": 1,
            "results": [{**_ECHO, "state": "planned", "handled_by": "playbooks"}],
        },
    ),
)
CONTEXT = (Example("the one everybody has", {}, _CONTEXT),)
UPDATE_CONTEXT = (
    Example("parameters as heroscript", {"params": "region:eu"}, {**_CONTEXT, "params": {"region": "eu"}}),
)
CONTEXTS = (Example("all of them", {}, {"items": [_CONTEXT], "next_cursor": None}),)
SESSION_GET = (Example("a value", _KEY, "red"),)
SESSION_SET = (Example("a value", {**_KEY, "value": "red"}, 1),)
SESSION_HAS = (Example("by its key", _KEY, True),)
SESSION_KEYS = (
    Example("by prefix", {"session_id": SESSION, "prefix": "col"}, {"items": ["colour"], "next_cursor": None}),
)
SESSION_DESTROY = (Example("all of it", {"session_id": SESSION}, True),)
CONTEXT_GET = (Example("a value", {"key": "colour"}, "red"),)
CONTEXT_SET = (Example("a value", {"key": "colour", "value": "red"}, 1),)
CONTEXT_HAS = (Example("by its key", {"key": "colour"}, True),)
CONTEXT_KEYS = (Example("by prefix", {"prefix": "col"}, {"items": ["colour"], "next_cursor": None}),)
CONTEXT_DESTROY = (Example("all of it", {}, True),)
