"""Keeping secrets out of what is stored and told: wherever one would stand, in any spelling, stand stars."""

import json
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

HIDDEN = "***"
HIDDEN_DATA = "***secret***"
"""Stands in a job's row for what the job was handed: such a job cannot be run again from its row."""

_MIN_LINE = 8  # a line of a key in several lines tells something; a brace does not


def spellings(secrets: Collection[str]) -> tuple[str, ...]:
    """Return every way a secret may turn up in a text, the longest first: as it is, escaped, quoted, line by line."""
    if not secrets:
        return ()
    found: set[str] = set()
    for secret in map(str.__str__, secrets):  # itself, also of a type whose repr is stars
        plain = {
            secret,
            secret.strip(),
            *(line.strip() for line in secret.splitlines() if len(line.strip()) >= _MIN_LINE),
        }
        for text in plain:
            escaped = (json.dumps(text), json.dumps(text, ensure_ascii=False), repr(text))
            found |= {text, *(one[1:-1] for one in escaped), quote(text.encode("utf-8", "surrogatepass"), safe="")}
    return tuple(sorted(filter(None, found), key=len, reverse=True))


def hidden(value: Any, known: tuple[str, ...], mark: str = HIDDEN) -> Any:
    """Return a value of texts, numbers, lists and objects in which none of the spellings stands."""
    if not known:
        return value
    if isinstance(value, str):
        for text in known:
            value = value.replace(text, mark)
        return value
    if isinstance(value, list | tuple):
        return [hidden(item, known, mark) for item in value]
    if isinstance(value, dict):
        return {hidden(key, known, mark): hidden(item, known, mark) for key, item in value.items()}
    return mark if _is_number(value) and str(value) in known else value


def holds(value: Any, known: tuple[str, ...]) -> bool:
    """Tell whether one of the spellings stands in a value."""
    return bool(known) and hidden(value, known) != value


def data_text(data: BaseModel, known: tuple[str, ...]) -> str:
    """Return what a job was handed as JSON text for its row."""
    if not known:
        return data.model_dump_json(by_alias=True)
    return json.dumps(hidden(data.model_dump(mode="json", by_alias=True), known, HIDDEN_DATA))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
