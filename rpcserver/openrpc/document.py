"""An OpenRPC 1.4 document made from the models that check the calls, so that it cannot say anything else.

Source: the OpenRPC specification 1.4; protocol.md 8.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import orjson
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from jobs.engine import JobRunner
from jobs.model import JobSpec
from rpcserver import __version__
from rpcserver.auth.authenticator import Principal
from rpcserver.events.catalog import NOTIFICATIONS, Notification
from rpcserver.rpc.calls import Example, Method
from rpcserver.rpc.errors import ANY_CALL, AUTHENTICATED_CALL, KINDS
from rpcserver.sessions import views
from store import Pool

OPENRPC = "1.4.1"
MAX_TEXTS = 16  # kept: of callers with as many different reaches
SCHEMAS = "#/components/schemas/"
ERRORS = "#/components/errors/"

Schema = dict[str, Any]

# What may ride in `params._meta` of any call by name; unknown keys are ignored.
META: Schema = {
    "type": "object",
    "description": "Rides in `params._meta` of any call by name.",
    "properties": {
        "progress_token": {"type": ["string", "integer"], "description": "Names the call in `$/progress`."},
        "deadline_ms": {"type": "number", "exclusiveMinimum": 0, "description": "What the call may take."},
        "idempotency_key": {
            "type": "string",
            "description": "Calls under one key run once, and are answered alike.",
        },
        "traceparent": {"type": "string", "description": "W3C trace context: the call becomes a span of that trace."},
    },
}


class Description:
    """The document of one server's methods, whole or for one caller.

    Args:
        threads: in which it is made; None: one of its own.
        runner: whose job functions are described beside them.
    """

    def __init__(self, methods: Iterable[Method], threads: Pool | None = None, runner: JobRunner | None = None) -> None:
        self._runner = runner
        self._functions: asyncio.Future[dict[str, orjson.Fragment]] | None = None
        self._threads = threads or Pool("answers", 1)
        self._methods = sorted(methods, key=lambda method: method.name)
        self._texts: OrderedDict[tuple[str, ...], asyncio.Future[bytes]] = OrderedDict()

    def whole(self) -> dict[str, Any]:
        """Return the document of every method that users may be allowed to call."""
        return self._document([method for method in self._methods if not method.is_operator])

    async def text_for(self, principal: Principal | None, is_operator: bool = False) -> bytes:
        """Return the document for a caller as JSON, made once for all who may call the same."""
        methods = [one for one in self._methods if one.is_for(principal, is_operator)]
        key = tuple(one.name for one in methods)
        text = self._texts.get(key)
        if text is None:
            # A tenth of a second's work the first time: not on the loop.
            making = self._threads.run(lambda: orjson.dumps(self._document(methods)))
            text = self._texts[key] = asyncio.ensure_future(making)
            if len(self._texts) > MAX_TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(key)
        return await asyncio.shield(text)

    async def job_functions(self) -> dict[str, orjson.Fragment]:
        """Return what `jobs.functions` tells of each job function, by name, made once."""
        if self._functions is None:
            # Not on the loop: so many schemas take longer than others should wait.
            specs = self._runner.functions if self._runner is not None else []
            self._functions = asyncio.ensure_future(self._threads.run(_functions, specs))
        return await asyncio.shield(self._functions)

    def _document(self, methods: list[Method]) -> dict[str, Any]:
        described = [self._described[method.name] for method in methods]
        names = {method.name for method in methods}
        notifications = [
            self._notifications[told.name] for told in NOTIFICATIONS if not told.reads or names & set(told.reads)
        ]
        return {
            "openrpc": OPENRPC,
            "info": {
                "title": "rpcserver",
                "version": __version__,
                "description": "JSON-RPC 2.0 over one WebSocket: sessions that walk through sets.",
                "license": {"name": "MIT"},
            },
            "methods": described,
            "components": {"schemas": self._reachable([described, notifications]), "errors": _ERRORS},
            "x-notifications": notifications,
            "x-meta": META,
        }

    @cached_property
    def _schemas(self) -> tuple[dict[Any, Schema], dict[str, Schema]]:
        """The schema of each params model and result, and the named schemas they refer to."""
        wanted: list[tuple[Any, Any, TypeAdapter[Any]]] = []
        for method in self._methods:
            wanted.append((f"params {method.name}", "validation", TypeAdapter(method.params)))
            wanted.append((f"result {method.name}", "validation", TypeAdapter(method.result)))
        for told in NOTIFICATIONS:
            wanted.append((f"told {told.name}", "validation", TypeAdapter(told.params)))
        found, definitions = TypeAdapter.json_schemas(
            wanted, ref_template=SCHEMAS + "{model}", schema_generator=_WithoutTitles
        )
        return {key: schema for (key, _), schema in found.items()}, definitions.get("$defs", {})

    @cached_property
    def _described(self) -> dict[str, dict[str, Any]]:
        return {method.name: self._method(method) for method in self._methods}

    @cached_property
    def _notifications(self) -> dict[str, dict[str, Any]]:
        return {told.name: self._notification(told) for told in NOTIFICATIONS}

    def _method(self, method: Method) -> dict[str, Any]:
        kinds = dict.fromkeys((*method.errors, *(AUTHENTICATED_CALL if method.needs_auth else ()), *ANY_CALL))
        codes = dict.fromkeys(KINDS[kind][0].name for kind in kinds)
        described: dict[str, Any] = {
            "name": method.name,
            "summary": method.doc.partition("\n")[0],
            "description": method.doc,
            "tags": [{"name": method.name.partition(".")[0]}],
            "paramStructure": "either",
            "params": sorted(self._params(f"params {method.name}"), key=lambda param: not param["required"]),
            "result": {"name": "result", "schema": self._schemas[0][f"result {method.name}"]},
            "errors": [{"$ref": ERRORS + code} for code in codes],
            "x-kinds": list(kinds),
            "x-ordered": method.is_ordered,
            "x-authenticated": method.needs_auth,
        }
        if method.examples:
            described["examples"] = [_example(example) for example in method.examples]
        return described

    def _notification(self, told: Notification) -> dict[str, Any]:
        described = {"name": told.name, "summary": told.doc, "paramStructure": "by-name"}
        if not told.is_event:
            return {**described, "params": self._params(f"told {told.name}")}
        envelope = {"subscription": "string", "epoch": "string", "seq": "integer", "at": "integer"}
        params = [{"name": name, "required": True, "schema": {"type": type}} for name, type in envelope.items()]
        data = {"name": "data", "required": True, "schema": self._schemas[0][f"told {told.name}"]}
        return {**described, "params": [*params, data]}

    def _params(self, key: str) -> list[dict[str, Any]]:
        schema = self._resolved(self._schemas[0][key])
        required = schema.get("required", ())
        return [_descriptor(name, part, name in required) for name, part in schema.get("properties", {}).items()]

    def _resolved(self, schema: Schema) -> Schema:
        if "$ref" in schema:
            return self._schemas[1][schema["$ref"].removeprefix(SCHEMAS)]
        return schema

    def _reachable(self, parts: Any) -> dict[str, Schema]:
        definitions = self._schemas[1]
        found: dict[str, Schema] = {}
        left = _references(parts)
        while left:
            name = left.pop()
            if name not in found:
                found[name] = definitions[name]
                left |= _references(definitions[name])
        return dict(sorted(found.items()))


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles that repeat a field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _descriptor(name: str, schema: Schema, is_required: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "required": is_required, "schema": schema}
    if "description" in schema:
        described["description"] = schema["description"]
    return described


def _example(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        "params": [{"name": name, "value": value} for name, value in example.params.items()],
        "result": {"name": "result", "value": example.result},
    }


def _references(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = part.get("$ref")
        named = {own.removeprefix(SCHEMAS)} if isinstance(own, str) and own.startswith(SCHEMAS) else set()
        return named.union(*(_references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(_references(value) for value in part))
    return set()


def kinds_of(document: dict[str, Any]) -> list[str]:
    """Return every kind of error that a document names, in order."""
    errors = document["components"]["errors"].values()
    return sorted(kind for error in errors for kind in error["data"]["kinds"])


def _errors() -> dict[str, Any]:
    """Return an error for each code, as OpenRPC wants them; `data.kinds` says what the code can stand for."""
    found: dict[str, Any] = {}
    for kind, (code, meaning) in sorted(KINDS.items()):
        name = code.name
        error = found.setdefault(name, {"code": code.value, "message": name.replace("_", " ").capitalize()})
        error.setdefault("data", {"kinds": {}})["kinds"][kind] = meaning
    return dict(sorted(found.items()))


_ERRORS = _errors()


def _functions(specs: list[JobSpec]) -> dict[str, orjson.Fragment]:
    return {spec.name: orjson.Fragment(orjson.dumps(views.job_function(spec))) for spec in specs}
