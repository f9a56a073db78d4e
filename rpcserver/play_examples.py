"""Examples of calls about playbooks, contexts and stores; see `examples`."""

from typing import Any

from rpcserver.examples import AT, JOB, SESSION, Example

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
_WRITTEN = {**_ECHO, "type": "sal", "params": {"content": "hello"}, "args": [], "priority": 50}
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
