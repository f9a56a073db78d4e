"""From what the rooms know to what goes over the wire."""

import math
from typing import Any

import orjson

from jobs.functions.session import Listing
from jobs.model import JobRow, JobSpec
from jobs.schedules import Schedule
from jobs.webhooks import Callback
from plugins.hooks import Command, Exit, Place
from rpcserver.events.scopes import brought_by
from rpcserver.rpc.calls import Client
from rpcserver.sessions.rows import Session
from store import Clock

# Attributes that a listing shows by a name of its own; the others stand under `attributes`.
_PROMINENT = ("description", "image")


def session_record(session: Session) -> dict[str, Any]:
    """Return a `models.SessionRecord`."""
    return {
        "session_id": session.id,
        "name": session.name,
        "state": session.state,
        "context_name": session.context_name,
        "is_default": bool(session.is_default),
        "core_user_id": session.core_user_id,
        "layer_user_id": session.layer_user_id,
        "working_set": session.working_set_id,
        "command_pallet": session.pallet_set_id,
        "session_data": session.data_set_id,
        "interactive": bool(session.is_interactive),
        "params": orjson.Fragment(session.params),
        "start": session.start_at,
        "end": session.end_at,
        "revision": session.revision,
        "history_depth": len(session.back),
        "options": orjson.Fragment(session.options),
        "relocated_from": session.relocated_from,
        "created_at": session.created_at,
        "last_used_at": session.last_used_at,
    }


def contents(listing: Listing, session_id: str, next_call: dict[str, Any] | None) -> dict[str, Any]:
    """Return a `models.Contents`."""
    here = listing.place.id
    return {
        "tokens": [_token(entry, session_id, here) for entry in listing.entries],
        "next": next_call,
        "next_cursor": next_call["params"]["cursor"] if next_call else None,
    }


def current_set(listing: Listing) -> dict[str, Any]:
    """Return a `models.CurrentSet`."""
    place, parent = listing.place, listing.parent
    return {
        "id": place.id,
        "set_name": place.name,
        "set_author": {"id": place.owner_id, "name": place.owner_name},
        "parent": {"id": parent.id, "set_name": parent.name} if parent else None,
        "can_write": place.rights.can_write,
    }


def commands(session_id: str, pallet: list[Command]) -> list[dict[str, Any]]:
    """Return the `models.ListedCommand`s."""
    return [
        {
            "id": command.id,
            "name": command.name,
            "description": command.description,
            "source": command.source,
            "accepts": command.accepts,
            "sort": command.sort if math.isfinite(command.sort) else None,
            "call": {"method": "session.action", "params": {"session_id": session_id, "token_id": command.id}},
        }
        for command in pallet
    ]


def remembered(tokens: list[dict[str, Any]], set_id: str, clock: Clock) -> list[dict[str, Any]]:
    """Return those entries of a session's data that count in a set now."""
    found = []
    for token in tokens:
        attributes = token["attributes"]
        expires_at = attributes.get("expires_at")
        if expires_at is not None:
            attributes["expires_at"] = clock.moment(expires_at)
        if attributes.get("set_id") in (None, set_id) and (expires_at is None or expires_at > clock.steady_ms()):
            found.append(token)
    return found


def place(listing: Listing) -> Place:
    """Return the place as guests see it."""
    here = listing.place
    ways = {
        way: Exit(onward.set_id, onward.name) if (onward := getattr(listing, way)) else None
        for way in ("back", "forward", "up", "home")
    }
    return Place(
        here.id, here.name, here.owner_id, has_children=listing.has_children, has_links=listing.has_links, **ways
    )


def job_record(row: JobRow, clock: Clock) -> dict[str, Any]:
    """Return a `job_models.JobRecord`."""
    return {
        "job_id": row.id,
        "function": row.function,
        "state": row.state,
        "owner_id": row.owner_id,
        "session_id": row.session_id,
        "parent_id": row.parent_id,
        "retry_of": row.retry_of,
        "attempts": row.attempt,
        "priority": row.priority,
        "held": bool(row.is_held),
        "cancelling": bool(row.is_cancelling) and not row.is_over,
        "run_at": _moment(row.run_at, clock),
        "progress": _fragment(row.progress),
        "result": _fragment(row.result),
        "error": _fragment(row.error),
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "brought_by": brought_by(row.authority),
    }


def job_function(spec: JobSpec) -> dict[str, Any]:
    """Return a job function as `jobs.functions` tells it."""
    return {
        "name": spec.name,
        "doc": spec.doc,
        "lane": spec.lane,
        "input": spec.input.model_json_schema(),
        "output": spec.output_schema,
        "core_calls": sorted(spec.calls),
        "timeout_s": spec.timeout_s,
        "retries": spec.retries,
        "backoff_s": spec.backoff_s,
        "on_crash": spec.on_crash,
        "limit": spec.limit,
        "internal": spec.is_internal,
    }


def callback(row: Callback, clock: Clock) -> dict[str, Any]:
    """Return a `job_models.CallbackState`."""
    return {
        "url": row.url,
        "state": row.state,
        "tries": row.tries,
        "status": row.status,
        "problem": row.problem,
        "next_at": _moment(row.next_at, clock),
    }


def schedule(row: Schedule, clock: Clock) -> dict[str, Any]:
    """Return a schedule as `schedules.list` tells it; times are UTC milliseconds."""
    line, _, zone = row.spec.partition("@")
    when: dict[str, Any] = {"cron": {"cron": line, "timezone": zone}}.get(row.kind, {})
    if row.kind == "interval":
        when = {"every_s": float(row.spec)}
    elif row.kind == "at":
        when = {"at": int(row.spec)}
    return {
        "schedule_id": row.id,
        "function": row.function,
        "data": orjson.Fragment(row.data),
        "session_id": row.session_id,
        **when,
        "catch_up": bool(row.is_catching_up),
        "next_at": _moment(row.next_at, clock) if row.kind == "interval" else row.next_at,
        "last_at": row.last_at,
        "last_job_id": row.last_job_id,
        "missed": row.missed,
        "created_at": row.created_at,
        "brought_by": brought_by(row.authority),
    }


def _moment(steady_ms: int | None, clock: Clock) -> int | None:
    return None if steady_ms is None else clock.moment(steady_ms)


def _fragment(text: str | None) -> orjson.Fragment | None:
    return None if text is None else orjson.Fragment(text)


def attached(connection: Client, is_me: bool) -> dict[str, Any]:
    """Return a connection as `session.presence` tells it."""
    principal = connection.principal
    return {
        "connection": connection.label,
        "client": connection.about.get("client", ""),
        "version": connection.about.get("version", ""),
        "type": connection.about.get("type", "other"),
        "label": principal.grant.label if principal else "",
        "holder": principal.holder if principal else None,
        "since": connection.opened_at,
        "is_me": is_me,
    }


def _token(entry: Any, session_id: str, here: str) -> dict[str, Any]:
    inspect = {
        "rel": "inspect",
        "method": "session.ls",
        "params": {"session_id": session_id, "set_id": here, "token_id": entry.id},
    }
    token: dict[str, Any] = {"id": entry.id, "name": entry.name, "type": entry.type}
    for name in _PROMINENT:
        token[name] = entry.attributes.get(name)
    token["attributes"] = {name: value for name, value in entry.attributes.items() if name not in _PROMINENT}
    if entry.answers:
        token["answers"] = entry.answers
    token["links"] = [inspect]
    if entry.type == "user":
        token["present"] = True
    if entry.set_id is not None:
        relation = entry.kind if entry.kind in ("child", "link") else "member"
        token["set"] = {"id": entry.set_id, "relation": relation}
        enter = {
            "rel": "enter",
            "method": "session.cd",
            "params": {"session_id": session_id, "set_id": entry.set_id},
        }
        token["links"] = [enter, inspect]
    return token
