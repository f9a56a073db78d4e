"""The reference of the methods as Markdown, from the OpenRPC document: docs/reference/methods.md."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from rpcserver.openrpc.document import SCHEMAS
from rpcserver.openrpc.stubs import python, typescript

STUBS: dict[str, Callable[[dict[str, Any]], str]] = {"ts": typescript, "py": python}


def lines(functions: Iterable[dict[str, Any]]) -> list[str]:
    """Return a few lines for each function, given as `jobs.functions` tells it."""
    found = []
    for function in functions:
        found += [
            f"{function['name']}  ({', '.join(_traits(function))})",
            f"    {function['doc'].partition(chr(10))[0]}",
            f"    takes: {_fields(function['input']) or 'nothing'}",
            f"    answers: {_short_type(function['output'], function['output'])}",
            f"    core calls: {', '.join(function['core_calls']) or 'none'}",
        ]
    return found


def _traits(function: dict[str, Any]) -> list[str]:
    traits = [function["lane"]]
    if function["internal"]:
        traits.append("internal")
    if function["on_crash"] == "retry":
        traits.append("run again after a crash")
    if function["retries"]:
        traits.append(f"{function['retries']} retries")
    if function["limit"] is not None:
        traits.append(f"{function['limit']} at once")
    return traits


def _fields(schema: dict[str, Any]) -> str:
    required = schema.get("required", ())
    return ", ".join(
        f"{name}{'' if name in required else '?'}: {_short_type(field, schema)}"
        for name, field in schema.get("properties", {}).items()
    )


def _short_type(schema: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return a schema in a few words; `whole` is what its references look into."""
    if "$ref" in schema:
        schema = whole.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    if "enum" in schema or "const" in schema:
        return "|".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return "|".join(dict.fromkeys(_short_type(each, whole) for each in schema["anyOf"]))
    if schema.get("type") == "array" and schema.get("items"):
        return f"[{_short_type(schema['items'], whole)}]"
    if schema.get("type") == "object" and "properties" in schema:
        return f"{{{', '.join(schema['properties'])}}}"
    return str(schema.get("type", "anything"))


Document = dict[str, Any]

_HEAD = """\
# Methods

What `rpcserver openrpc` tells programs, to read. A test makes every example against a live server.

Params go by name or by position, in the order of the table. By name, `_meta` may ride along:

| `_meta` | type | meaning |
|---|---|---|
{meta}

Besides what a method lists, any call can be answered with {common}: [errors](errors.md).
Results may gain members: ignore what you do not know.
"""


def markdown(document: Document) -> str:
    """Return the page: methods with params, results, errors and examples; types; notifications."""
    meta = [
        f"| `{name}` | {_type(schema)} | {schema['description']} |"
        for name, schema in document["x-meta"]["properties"].items()
    ]
    common = _common(document)
    parts = [_HEAD.format(meta="\n".join(meta), common=", ".join(f"`{kind}`" for kind in common))]
    parts += [_method(method, common) for method in document["methods"]]
    parts.append(_types(document))
    parts.append(_notifications(document))
    return "\n".join(parts)


def _common(document: Document) -> list[str]:
    each = [method["x-kinds"] for method in document["methods"]]
    return [kind for kind in each[0] if all(kind in kinds for kinds in each)] if each else []


def _method(method: dict[str, Any], common: list[str]) -> str:
    lines = [f"## {method['name']}", "", method["description"], ""]
    if not method["x-authenticated"]:
        lines += ["Needs no credential.", ""]
    if method["params"]:
        lines += ["| param | type | default | meaning |", "|---|---|---|---|"]
        lines += [_param(param) for param in method["params"]]
        lines.append("")
    lines += [f"Result: {_type(method['result']['schema'])}.", ""]
    own = [kind for kind in method["x-kinds"] if kind not in common]
    if method["name"].startswith("core."):
        lines += ["Errors: those of jobs and of the core, as the words above say.", ""]
    elif own:
        lines += [f"Errors: {', '.join(f'`{kind}`' for kind in own)}.", ""]
    for example in method.get("examples", ()):
        lines += [*_example(method["name"], example), ""]
    return "\n".join(lines)


def _param(param: dict[str, Any]) -> str:
    schema = param["schema"]
    default = "**required**" if param["required"] else f"`{json.dumps(schema.get('default'))}`"
    return f"| `{param['name']}` | {_type(schema)} | {default} | {param.get('description', '')} |"


def _example(method: str, example: dict[str, Any]) -> list[str]:
    params = {param["name"]: param["value"] for param in example["params"]}
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    response = {"jsonrpc": "2.0", "id": 1, "result": example["result"]["value"]}
    return [f"Example: {example['name']}.", "", "```json", json.dumps(request), json.dumps(response), "```"]


def _types(document: Document) -> str:
    lines = ["# Types", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [
            f"## {name}",
            "",
            schema.get("description", ""),
            "",
            "| member | type | always there |",
            "|---|---|---|",
        ]
        required = schema.get("required", ())
        for member, part in schema.get("properties", {}).items():
            lines.append(f"| `{member}` | {_type(part)} | {'yes' if member in required else 'no'} |")
        lines.append("")
    return "\n".join(lines)


def _notifications(document: Document) -> str:
    lines = [
        "# Notifications",
        "",
        "An event of a subscription has the params `subscription`, `epoch`, `seq`, `at` (UTC milliseconds) and `data`.",
        "",
        "| notification | when | params; for an event: `data` |",
        "|---|---|---|",
    ]
    for told in document["x-notifications"]:
        if told["name"].startswith("$/"):
            params = ", ".join(f"`{param['name']}`: {_type(param['schema'])}" for param in told["params"])
        else:
            params = _type(told["params"][-1]["schema"])
        lines.append(f"| `{told['name']}` | {told['summary']} | {params} |")
    return "\n".join([*lines, ""])


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SCHEMAS)
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option) for option in schema["anyOf"]))
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return f"{kind}{_bounds(schema)}" if kind else "any"


def _bounds(schema: dict[str, Any]) -> str:
    words = []
    if "minimum" in schema or "maximum" in schema:
        words.append(f"{schema.get('minimum', '')} to {schema.get('maximum', '')}".strip())
    if "maxLength" in schema:
        words.append(f"{schema.get('minLength', 0)} to {schema['maxLength']} characters")
    return f" ({', '.join(words)})" if words else ""
