"""What guests bring at the start: settings read, job functions, methods of the API. Each is checked at the door."""

import math
import re
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from jobs.model import JobSpec, faults
from plugins.bus import Bus
from plugins.errors import BadPlugin
from plugins.hooks import GuestMethod, ReadSettings

M = TypeVar("M", bound=BaseModel)
_METHOD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")


def settings(bus: Bus, given: Mapping[str, Mapping[str, Any]]) -> dict[str, BaseModel]:
    """Have the guests read their settings, and return these by guest.

    Raises BadPlugin for what does not fit, and for settings that no guest reads: their name is misspelt.
    """
    unread = set(given)

    def reader(guest: str) -> ReadSettings:
        def read(model: type[M], /) -> M:
            unread.discard(guest)
            try:
                return model.model_validate({name: _value(value) for name, value in given.get(guest, {}).items()})
            except ValidationError as error:
                first = error.errors(include_url=False, include_input=False)[0]
                field = ".".join(str(part) for part in first["loc"])
                raise BadPlugin(guest, f"setting plugin.{guest}.{field}: {first['msg']}") from None

        return read

    found = bus.collect("register_settings", lambda guest: {"read": reader(guest)})
    for guest in sorted(unread):
        why = "it reads none" if guest in bus.names else "there is no such plugin"
        raise BadPlugin(guest, f"settings are given for it, but {why}")
    return {guest: read for guest, read in found if isinstance(read, BaseModel)}


def jobs(bus: Bus, taken: Container[str]) -> list[JobSpec]:
    """Return the job functions the guests bring. Raises BadPlugin, also when a name is among those `taken`."""
    found: dict[str, JobSpec] = {}
    for guest, brought in bus.collect("register_jobs"):
        for spec in _listed(guest, "register_jobs", brought):
            if not isinstance(spec, JobSpec):
                raise BadPlugin(guest, f"register_jobs returned {type(spec).__name__} where a job is due")
            if wrong := faults(spec):
                raise BadPlugin(guest, f"its job function {spec.name!r} cannot work: {'; '.join(wrong)}")
            if spec.name in found or spec.name in taken:
                raise BadPlugin(guest, f"there is a job function {spec.name!r} already")
            found[spec.name] = replace(spec, plugin=guest)
    return list(found.values())


def methods(bus: Bus, taken: Container[str]) -> list[tuple[str, GuestMethod]]:
    """Return the methods the guests bring, as (guest, method). Raises BadPlugin, also for a name that is not his."""
    found: dict[str, tuple[str, GuestMethod]] = {}
    for guest, brought in bus.collect("register_methods"):
        for method in _listed(guest, "register_methods", brought):
            if not isinstance(method, GuestMethod):
                raise BadPlugin(guest, f"register_methods returned {type(method).__name__} where a method is due")
            if not method.name.startswith(f"{guest}.") or not _METHOD.fullmatch(method.name.removeprefix(f"{guest}.")):
                raise BadPlugin(guest, f"its method {method.name!r} must be named {guest}.WORD, of a-z, 0-9 and _")
            if not (isinstance(method.params, type) and issubclass(method.params, BaseModel)):
                raise BadPlugin(guest, f"the params of its method {method.name!r} are no pydantic model")
            if method.timeout_s is not None and not 0 < method.timeout_s < math.inf:
                raise BadPlugin(guest, f"timeout_s of its method {method.name!r} is no number of seconds above 0")
            if method.name in found or method.name in taken:
                raise BadPlugin(guest, f"there is a method {method.name!r} already")
            found[method.name] = (guest, method)
    return list(found.values())


def _value(value: Any) -> Any:
    # The environment holds text: lists and tables stand there as JSON.
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _listed(guest: str, hook: str, brought: Any) -> list[Any]:
    if brought is None:
        return []
    if not isinstance(brought, list):
        raise BadPlugin(guest, f"{hook} returned {type(brought).__name__} where a list is due")
    return brought
