"""Writes the pages of docs/reference from the code: `python docs/generate.py`. A test checks that they are current."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from core.remotes import Definition
from rpcserver.methods import METHODS, document
from rpcserver.openrpc.reference import markdown
from rpcserver.rpc import errors
from rpcserver.settings import Settings

REFERENCE = Path(__file__).parent / "reference"
ROOM = Path(errors.__file__).parent
CLIENT_SIDE = ("caller.py", "client.py", "client_handlers.py", "demo.py")
HEAD = "<!-- Written by docs/generate.py: change the code, then run it. -->\n\n"

CONFIGURATION = """# Settings

Each has a default and can be set, from the weakest to the strongest, in `rpcserver.toml` in the data folder (by the
name below), in the environment (`RPCSERVER_` and the name in capitals), and some by a flag of `rpcserver serve`.
In the environment a list is written in a row, as `RPCSERVER_ORIGINS="https://app.example.org https://b.example"` (paths
with a `:` between them), or as JSON. Origins, hosts, addresses and networks are brought into one form: capitals, the
default port and a slash at the end do not matter. An unknown name in the file or a value that does not fit stops the
start and is named, with the form it should have.

| setting | type | default | |
|---|---|---|---|
"""

ERRORS = """# Errors

An error object is `{code, message, data}`. `data` always has `kind`, the error's name, and `retryable`: whether the
same call may succeed later; what else it has depends on the kind. The text of an unforeseen exception never leaves the
server: `INTERNAL` and `JOB_FAILED` carry a `ref` that stands in its log.

## Codes

| code | name | kinds |
|---|---|---|
"""

KINDS = """
## Kinds

| kind | code | when |
|---|---|---|
"""


CORE = """# Calls of the core

How a user builds sets, tokens, types, rules, commands, scripts and remotes over the wire. Each call is a job in the
caller's name that may make the core calls it declares and no other; a credential reaches them by a scope such as
`core.*`. A parameter with `?` may be left out. Lists take `limit` (1 to 200) and `cursor`, and answer
`{items, next_cursor}`. Where the operator alone may call, it says so.
"""


def configuration() -> str:
    """Return the page of settings."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "the platform's user data folder" if name == "data" else f"`{_shown(field.default)}`"
        rows.append(f"| `{name}` | {_type(field.annotation)} | {default} | {field.description} |\n")
    return HEAD + CONFIGURATION + "".join(rows)


def error_page() -> str:
    """Return the page of codes and kinds."""
    names = {value: name for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    kinds: dict[str, tuple[int, str]] = {}
    for cls, (code, kind, _) in errors.TABLE.items():
        kinds.setdefault(kind, (code, _sentence(cls)))
    for kind, code, when in _raised_at_the_edge():
        if not kinds.get(kind, (0, ""))[1]:
            kinds[kind] = (code, when)
    page = HEAD + ERRORS
    for code, name in sorted(names.items(), reverse=True):
        own = ", ".join(f"`{kind}`" for kind, (its_code, _) in sorted(kinds.items()) if its_code == code)
        page += f"| {code} | {name} | {own or 'not in use yet'} |\n"
    page += KINDS
    for kind, (code, when) in sorted(kinds.items()):
        page += f"| `{kind}` | {code} | {when} |\n"
    return page


def core_page() -> str:
    """Return the page of the core's calls."""
    page = HEAD + CORE
    for method in METHODS:
        if method.name.startswith("core."):
            fields = method.params.model_fields.items()
            names = [name if field.is_required() else f"{name}?" for name, field in fields]
            page += f"\n## {method.name}\n\n`{{{', '.join(names)}}}`{' - the operator' * method.is_operator}\n\n"
            page += _paragraphs(method.doc)
    return page + "\n## The definition of a remote\n\n" + _paragraphs(inspect.getdoc(Definition) or "")


def _paragraphs(doc: str) -> str:
    return re.sub(r"^(Args|Raises|Returns):$\n", r"\1:\n\n", doc, flags=re.M).rstrip() + "\n"


def _raised_at_the_edge() -> Iterator[tuple[str, int, str]]:
    """Find (kind, code, when) of every error that stands in the code instead of the table."""
    for path in sorted(ROOM.rglob("*.py")):
        if path.name in CLIENT_SIDE:
            continue
        for owner in ast.walk(ast.parse(path.read_text("utf-8"))):
            # An error's class speaks for itself by its docstring, a place that raises by its message.
            if isinstance(owner, ast.ClassDef) and any(ast.unparse(name) == "RpcError" for name in owner.bases):
                yield from _in(owner, (ast.get_docstring(owner) or "").partition("\n")[0])
            elif isinstance(owner, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _in(owner, "")


def _in(owner: ast.AST, when: str) -> Iterator[tuple[str, int, str]]:
    for node in ast.walk(owner):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        code = _code(node.args[0])
        texts = [_text(argument) for argument in node.args[1:]]
        texts += [
            _text(value)
            for argument in node.args
            if isinstance(argument, ast.Dict)
            for key, value in zip(argument.keys, argument.values, strict=True)
            if isinstance(key, ast.Constant) and key.value == "kind"
        ]
        kind = next((text for text in texts if text and text.isupper() and " " not in text), None)
        if code is not None and kind is not None:
            said = next((text for text in texts if text and text != kind), _message(owner, node))
            yield kind, code, when or said


def _message(owner: ast.AST, call: ast.Call) -> str:
    # The message stands in a variable of that name, in the lines above.
    assigned = [
        _text(node.value)
        for node in ast.walk(owner)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "message"
        and node.lineno <= call.lineno
    ]
    return (assigned or [""])[-1] or ""


def _code(node: ast.expr) -> int | None:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
    value: Any = getattr(errors, name, None) if name else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        value = -int(str(node.operand.value))
    return value if isinstance(value, int) and value < -32000 else None


def _text(node: ast.expr) -> str | None:
    """Return a literal's text; what an f-string fills in becomes an ellipsis."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
    return None


def _sentence(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]


def _type(annotation: Any) -> str:
    if get_origin(annotation) is tuple:
        return f"list of {get_args(annotation)[0].__name__.lower()}"
    if isinstance(annotation, UnionType):
        return " or ".join(_type(part) for part in get_args(annotation))
    return str(annotation.__name__).lower()


def _shown(value: Any) -> str:
    shown = list(value) if isinstance(value, tuple) else value
    return str(shown).lower() if isinstance(shown, bool) else str(shown)


def methods() -> str:
    """Return the page of methods, types and notifications."""
    return HEAD + markdown(document())


PAGES = {
    "configuration.md": configuration,
    "core.md": core_page,
    "errors.md": error_page,
    "methods.md": methods,
}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
