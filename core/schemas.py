"""The JSON Schema of a person's answer: those words of it that are checked in a time that grows with the answer alone.

A schema comes from whoever makes a remote. The whole of JSON Schema would let him have patterns that never end, and
references that are fetched from elsewhere. Source: sessions.md 4.2 (manual), protocol.md 5.
"""

import json
from typing import Any

import jsonschema

from core.errors import BadRemote

MAX_BYTES = 4096
MAX_ANSWER_BYTES = 16 * 1024
MAX_DEPTH = 8
WORDS = frozenset({
    *("type", "enum", "const", "title", "description", "default", "examples"),
    *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    *("items", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
})  # fmt: skip


def check_schema(schema: dict[str, Any]) -> None:
    """Raise BadRemote for a schema that is none, or holds words that are not known here."""
    if len(json.dumps(schema)) > MAX_BYTES:
        raise BadRemote(f"its schema is longer than {MAX_BYTES} bytes")
    _check_words(schema, 1)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise BadRemote(f"its schema is none: {error.message[:200]}") from error


def _check_words(schema: Any, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        raise BadRemote(f"its schema must be made of objects, at most {MAX_DEPTH} deep")
    for word in schema:
        if word not in WORDS:
            raise BadRemote(f"its schema holds {word[:80]!r}; known are {', '.join(sorted(WORDS))}")
    properties = schema.get("properties", {})
    inner = list(properties.values()) if isinstance(properties, dict) else []
    inner += [schema[word] for word in ("items", "additionalProperties") if word in schema]
    for one in inner:
        _check_words(one, depth + 1)
