"""Job functions as lines to read: `rpcserver jobs functions`."""

from collections.abc import Iterable
from typing import Any


def lines(functions: Iterable[dict[str, Any]]) -> list[str]:
    """Return a few lines for each function, given as `jobs.functions` tells it."""
    found = []
    for function in functions:
        found += [
            f"{function['name']}  ({', '.join(_traits(function))})",
            f"    {function['doc'].partition(chr(10))[0]}",
            f"    takes: {_fields(function['input']) or 'nothing'}",
            f"    answers: {_type(function['output'], function['output'])}",
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
        f"{name}{'' if name in required else '?'}: {_type(field, schema)}"
        for name, field in schema.get("properties", {}).items()
    )


def _type(schema: dict[str, Any], whole: dict[str, Any]) -> str:
    """Return a schema in a few words; `whole` is what its references look into."""
    if "$ref" in schema:
        schema = whole.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    if "enum" in schema or "const" in schema:
        return "|".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return "|".join(dict.fromkeys(_type(each, whole) for each in schema["anyOf"]))
    if schema.get("type") == "array" and schema.get("items"):
        return f"[{_type(schema['items'], whole)}]"
    if schema.get("type") == "object" and "properties" in schema:
        return f"{{{', '.join(schema['properties'])}}}"
    return str(schema.get("type", "anything"))
