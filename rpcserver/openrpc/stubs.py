"""Typed client stubs, written from an OpenRPC document: `rpcserver client ts` and `rpcserver client py`.

A stub knows types and names only; whatever can `call(method, params)` carries it.
"""

import json
import keyword
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from rpcserver.openrpc.document import SCHEMAS, kinds_of

Document = dict[str, Any]
Schema = dict[str, Any]
Params = list[dict[str, Any]]

_TS_NAMES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_PY_NAMES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}

_TS_HEAD = """\
// Written by `rpcserver client ts` from the OpenRPC document of rpcserver {version}. Do not edit: write it again.

/** Whatever makes a call: a JSON-RPC client over a WebSocket. */
export interface Caller {{
  call(method: string, params: object): Promise<unknown>;
}}

/** An event of a subscription: the params of its notification. */
export interface EventOf<D> {{
  subscription: string;
  epoch: string;
  seq: number;
  at: number;
  data: D;
}}

/** What an error's `data` holds; `kind` says what happened. */
export interface ErrorData {{
  kind: ErrorKind;
  retryable: boolean;
  [detail: string]: unknown;
}}
"""
_PY_HEAD = '''\
"""Written by `rpcserver client py` from the OpenRPC document of rpcserver {version}. Do not edit: write it again."""

from typing import Any, Generic, Literal, NotRequired, Protocol, TypedDict, TypeVar, Unpack, cast

D = TypeVar("D")


class Caller(Protocol):
    """Whatever makes a call, such as `rpcserver.client.Client`."""

    async def call(self, method: str, /, **params: Any) -> Any:
        """Call a method with params by name and return its result."""


class EventOf(TypedDict, Generic[D]):
    """An event of a subscription: the params of its notification."""

    subscription: str
    epoch: str
    seq: int
    at: int
    data: D
'''


def typescript(document: Document) -> str:
    """Return a TypeScript module: every type, `Methods`, `Notifications`, `ErrorKind`, and `Api` over a `Caller`."""
    parts = [_TS_HEAD.format(version=document["info"]["version"])]
    meta = document["x-meta"]
    parts.append(_ts_interface("Meta", meta["description"], _fields(meta, _ts_type)))
    for name, schema in document["components"]["schemas"].items():
        parts.append(_ts_interface(name, schema.get("description"), _fields(schema, _ts_type)))
    for method in document["methods"]:
        fields = [*_param_fields(method["params"], _ts_type), _META]
        parts.append(_ts_interface(_type_name(method["name"]), None, fields))
    for told in document["x-notifications"]:
        if told["name"].startswith("$/"):
            name = _type_name(told["name"])
            parts.append(_ts_interface(name, told["summary"], _param_fields(told["params"], _ts_type)))
    parts += [_ts_methods(document), _ts_notifications(document), _ts_kinds(document), _ts_api(document)]
    return "\n".join(parts)


def python(document: Document) -> str:
    """Return a Python module: a TypedDict for every type, `ErrorKind`, and `Api` over a `Caller`."""
    parts = [_PY_HEAD.format(version=document["info"]["version"])]
    meta = document["x-meta"]
    parts.append(_py_typed_dict("Meta", meta["description"], _fields(meta, _py_type)))
    for name, schema in document["components"]["schemas"].items():
        words = schema.get("description") or "An object."
        parts.append(_py_typed_dict(name, words, _fields(schema, _py_type)))
    for method in document["methods"]:
        fields = [*_param_fields(method["params"], _py_type), _META]
        parts.append(_py_typed_dict(_type_name(method["name"]), f"Params of {method['name']}.", fields))
    for told in document["x-notifications"]:
        if told["name"].startswith("$/"):
            fields = _param_fields(told["params"], _py_type)
            parts.append(_py_typed_dict(_type_name(told["name"]), told["summary"], fields))
    kinds = ",\n".join(f"    {_quoted(kind)}" for kind in kinds_of(document))
    parts.append(f"ErrorKind = Literal[\n{kinds},\n]\n")
    for group, methods in _groups(document).items():
        parts.append(_py_group(group, methods))
    lines = [f"        self.{group} = _{group.capitalize()}(caller)" for group in _groups(document)]
    head = '\n\nclass Api:\n    """Every method, by its group."""\n\n    def __init__(self, caller: Caller) -> None:\n'
    return "\n\n".join(part.strip("\n") for part in parts) + "\n" + head + "\n".join(lines) + "\n"


# A field: name, type, whether it must be there, words.
_Field = tuple[str, str, bool, str | None]
_META: _Field = ("_meta", "Meta", False, None)


def _fields(schema: Schema, type_of: Callable[[Schema], str]) -> list[_Field]:
    required = schema.get("required", ())
    return [
        (name, type_of(part), name in required, part.get("description"))
        for name, part in schema.get("properties", {}).items()
    ]


def _param_fields(params: Params, type_of: Callable[[Schema], str]) -> list[_Field]:
    return [(one["name"], type_of(one["schema"]), one["required"], one.get("description")) for one in params]


def _type_name(name: str) -> str:
    parts = name.replace("$/", "").replace(".", "_").split("_")
    return "".join(part[:1].upper() + part[1:] for part in parts) + "Params"


def _groups(document: Document) -> dict[str, list[dict[str, Any]]]:
    groups: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for method in document["methods"]:
        groups[method["name"].partition(".")[0]].append(method)
    return dict(groups)


def _member(method: dict[str, Any]) -> str:
    name = str(method["name"]).partition(".")[2].replace(".", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def _quoted(text: str) -> str:
    return json.dumps(text)


def _alternatives(schema: Schema, type_of: Callable[[Schema], str]) -> Iterable[str]:
    options = schema.get("anyOf") or [{**schema, "type": one} for one in schema["type"]]
    return dict.fromkeys(type_of(option) for option in options)


def _ts_type(schema: Schema) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(SCHEMAS)
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if "anyOf" in schema or isinstance(kind, list):
        return " | ".join(_alternatives(schema, _ts_type))
    if kind == "array":
        return f"Array<{_ts_type(schema.get('items', {}))}>"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {_ts_type(values) if isinstance(values, dict) else 'unknown'}>"
    return _TS_NAMES.get(str(kind), "unknown")


def _ts_interface(name: str, words: str | None, fields: list[_Field]) -> str:
    lines = [f"/** {' '.join(words.split())} */"] if words else []
    lines.append(f"export interface {name} {{")
    for field, type, is_required, said in fields:
        if said:
            lines.append(f"  /** {said} */")
        lines.append(f"  {field}{'' if is_required else '?'}: {type};")
    return "\n".join([*lines, "}", ""])


def _ts_methods(document: Document) -> str:
    lines = ["/** Every method: its params and its result. */", "export interface Methods {"]
    for method in document["methods"]:
        name, result = method["name"], _ts_type(method["result"]["schema"])
        lines.append(f"  {_quoted(name)}: {{ params: {_type_name(name)}; result: {result} }};")
    return "\n".join([*lines, "}", ""])


def _ts_notifications(document: Document) -> str:
    lines = ["/** Every notification the server sends: its params. */", "export interface Notifications {"]
    for told in document["x-notifications"]:
        name = told["name"]
        is_event = not name.startswith("$/")
        type = f"EventOf<{_ts_type(told['params'][-1]['schema'])}>" if is_event else _type_name(name)
        lines.append(f"  {_quoted(name)}: {type};")
    return "\n".join([*lines, "}", ""])


def _ts_kinds(document: Document) -> str:
    kinds = "\n".join(f"  | {_quoted(kind)}" for kind in kinds_of(document))
    return f"/** Every kind of error. */\nexport type ErrorKind =\n{kinds};\n"


def _ts_api(document: Document) -> str:
    lines = [
        "/** Every method, by its group: `new Api(caller).session.ls({})`. */",
        "export class Api {",
        "  private readonly caller: Caller;",
        "",
        "  constructor(caller: Caller) {",
        "    this.caller = caller;",
        "  }",
        "",
        '  call<M extends keyof Methods>(method: M, params: Methods[M]["params"]): Promise<Methods[M]["result"]> {',
        '    return this.caller.call(method, params) as Promise<Methods[M]["result"]>;',
        "  }",
    ]
    for group, methods in _groups(document).items():
        lines += ["", f"  readonly {group} = {{"]
        for method in methods:
            name = method["name"]
            default = "" if any(one["required"] for one in method["params"]) else " = {}"
            lines.append(f"    /** {method['summary']} */")
            lines.append(
                f"    {_member(method)}: (params: {_type_name(name)}{default}) => this.call({_quoted(name)}, params),"
            )
        lines.append("  };")
    return "\n".join([*lines, "}", ""])


def _py_type(schema: Schema) -> str:
    if "$ref" in schema:
        return _quoted(str(schema["$ref"]).removeprefix(SCHEMAS))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return f"Literal[{', '.join(repr(value) for value in values)}]"
    kind = schema.get("type")
    if "anyOf" in schema or isinstance(kind, list):
        options = [option.strip('"') for option in _alternatives(schema, _py_type)]
        # Quoted as a whole: `"Listing" | None` is no type expression.
        return _quoted(" | ".join(options)) if "anyOf" in schema else " | ".join(options)
    if kind == "array":
        return f"list[{_py_type(schema.get('items', {}))}]"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"dict[str, {_py_type(values) if isinstance(values, dict) else 'Any'}]"
    return _PY_NAMES.get(str(kind), "Any")


def _py_typed_dict(name: str, words: str, fields: list[_Field]) -> str:
    if any(keyword.iskeyword(field) for field, *_ in fields):
        # A class cannot have a field of such a name.
        inner = ", ".join(f'"{field}": {type}' for field, type, *_ in fields)
        return f'{name} = TypedDict("{name}", {{{inner}}})'
    lines = [f"class {name}(TypedDict):", f'    """{" ".join(words.split())}"""']
    if fields:
        lines.append("")
    for field, type, is_required, _ in fields:
        lines.append(f"    {field}: {type}" if is_required else f"    {field}: NotRequired[{type}]")
    return "\n".join(lines)


def _py_group(group: str, methods: list[dict[str, Any]]) -> str:
    lines = [
        f"class _{group.capitalize()}:",
        "    def __init__(self, caller: Caller) -> None:",
        "        self._caller = caller",
    ]
    for method in methods:
        name, result = method["name"], _py_type(method["result"]["schema"])
        lines += [
            "",
            f"    async def {_member(method)}(self, **params: Unpack[{_type_name(name)}]) -> {result}:",
            f'        """{method["summary"]}"""',
            f"        return cast({result}, await self._caller.call({_quoted(name)}, **params))",
        ]
    return "\n".join(lines)
