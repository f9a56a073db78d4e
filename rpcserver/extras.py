"""The optional parts of an installation, and what to do where one is missing."""

from importlib.util import find_spec
from typing import Any

from rpcserver.settings import Settings

# Extra of pyproject.toml -> the package that it brings.
MODULES = {
    "fast": "uvloop",
    "kvs": "cryptography",
    "jwt": "joserfc",
    "tracing": "opentelemetry",
    "scripts": "pydantic_monty",
    "remotes": "httpx2",
}


class MissingExtra(Exception):
    """What was asked for needs an extra that is not installed."""

    def __init__(self, wish: str, extra: str) -> None:
        super().__init__(f"{wish} needs the extra {extra!r}: pip install 'rpcserver[{extra}]'")


# Setting -> the extra without which nothing would heed it.
_SETTINGS = {"jwt_keys": "jwt", "stores_secret": "kvs", "remote_hosts": "remotes"}


def installed() -> list[str]:
    """Return the names of the extras that are here."""
    return [extra for extra, module in MODULES.items() if find_spec(module) is not None]


def check(settings: Settings) -> None:
    """Raise MissingExtra where a setting asks for an extra that is not installed."""
    for name, extra in _SETTINGS.items():
        if getattr(settings, name):
            need(extra, f"the setting {name}")


def check_world(world: dict[str, Any], what: str) -> None:
    """Raise MissingExtra where what a world file describes would run into one."""
    if world.get("scripts"):
        need("scripts", what)
    if any(remote.get("kind") != "manual" for remote in world.get("remotes", {}).values()):
        need("remotes", what)


def need(extra: str, wish: str) -> None:
    """Raise MissingExtra, saying what needs it, where an extra is not installed."""
    if extra not in installed():
        raise MissingExtra(wish, extra)
