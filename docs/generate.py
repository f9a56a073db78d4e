"""Writes the pages of docs/reference from the code: `python docs/generate.py`. A test checks that they are current."""

import inspect
import re
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
    page = HEAD + ERRORS
    for code in sorted(errors.Code, reverse=True):
        own = ", ".join(f"`{kind}`" for kind, (its_code, _) in sorted(errors.KINDS.items()) if its_code == code)
        page += f"| {code} | {code.name} | {own or 'not in use yet'} |\n"
    page += KINDS
    for kind, (code, when) in sorted(errors.KINDS.items()):
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
