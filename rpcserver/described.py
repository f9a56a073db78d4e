"""What the command line prints of the methods, without a running server."""

from collections.abc import Callable
from typing import Any

from rpcserver.methods import METHODS
from rpcserver.openrpc import Description
from rpcserver.reference import markdown
from rpcserver.stubs import python, typescript

STUBS: dict[str, Callable[[dict[str, Any]], str]] = {"ts": typescript, "py": python}


def document() -> dict[str, Any]:
    """Return the OpenRPC document of every method a user may be allowed to call."""
    return Description(METHODS).whole()


def reference() -> str:
    """Return the page docs/reference/methods.md."""
    return markdown(document())
