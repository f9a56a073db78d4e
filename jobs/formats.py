"""How what goes to a remote is written, and how its answer is read: JSON, forms, text, XML, YAML, multipart.

What comes is from strangers. XML is read by the standard library's expat, with any document type refused: without one
there are no entities but the five every document knows, and nothing is fetched. YAML is read by PyYAML's safe loader,
with anchors, aliases and tags refused. Both are bounded in depth and number of nodes. JSON is read by orjson: strictly.
Source: sessions.md 4.2 (format).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

import orjson

from jobs.errors import RemoteUnavailable

MAX_DEPTH = 64
MAX_NODES = 20_000
MAX_FIELDS = 1000
_ELEMENT = re.compile(r"[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PLAIN_WORDS = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")),
    ("float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
)
_MISSING = "this server knows no YAML: its operator installs it with `pip install rpcserver[remotes]`"


@dataclass(frozen=True, slots=True)
class File:
    """A file to be sent by multipart."""

    name: str
    content: bytes


def plain(held: Any) -> str:
    """Return a value as the text that a form, a header or a path holds."""
    return held if isinstance(held, str) else json.dumps(held)


def written(form: str, mapped: Mapping[str, Any], root: str) -> tuple[str, bytes]:
    """Return content type and body of what is sent as `json`, `form`, `text`, `xml`, `yaml` or `multipart`.

    Raises RemoteUnavailable for what cannot be written so.
    """
    if form == "json":
        return "application/json", json.dumps(mapped).encode()
    if form == "form":
        body = urlencode({name: plain(held) for name, held in mapped.items()}).encode("utf-8", "replace")
        return "application/x-www-form-urlencoded", body
    if form == "text":
        return "text/plain; charset=utf-8", "".join(plain(held) for held in mapped.values()).encode("utf-8", "replace")
    if form == "xml":
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n{_element(root, mapped)}'
        return "application/xml", text.encode("utf-8", "replace")
    if form == "yaml":
        return "application/yaml", _yaml().safe_dump(dict(mapped), allow_unicode=True, sort_keys=False).encode(
            "utf-8", "replace"
        )
    fields = [_field(name, held) for name, held in mapped.items()]
    # Made of what it parts, so that it stands in none of it and is the same for the same.
    boundary = hashlib.sha256(b"".join(fields)).hexdigest()
    line = f"--{boundary}".encode()
    body = b"".join(line + b"\r\n" + one for one in fields) + line + b"--\r\n"
    return f"multipart/form-data; boundary={boundary}", body


def read(form: str, text: str) -> Any:
    """Return what an answer says, as JSON values; nothing at all is null. Raises RemoteUnavailable."""
    if form == "text" or not text.strip():
        return text if form == "text" else None
    try:
        return _READERS[form](text)
    except (ValueError, RecursionError) as error:
        raise RemoteUnavailable(f"it did not answer with {form.upper()}") from error


def _read_form(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=MAX_FIELDS):
        before = found.get(name)
        found[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return found


def _read_xml(text: str) -> dict[str, Any]:
    reader = _XmlReader()
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from error
    return reader.found


class _XmlReader:
    """Makes of each element its text, or an object of `@attributes`, children (several: a list) and `#text`."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self._open: list[tuple[str, dict[str, Any], list[str]]] = []
        self._nodes = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = lambda text: self._open[-1][2].append(text)

    def _refuse(self, *_: Any) -> None:
        raise RemoteUnavailable("it answered with XML that has a document type, which is not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._nodes += 1 + len(attributes)
        if len(self._open) >= MAX_DEPTH or self._nodes > MAX_NODES:
            raise RemoteUnavailable(f"it answered with XML deeper than {MAX_DEPTH}, or of more than {MAX_NODES} nodes")
        self._open.append((name, {f"@{key}": value for key, value in attributes.items()}, []))

    def _end(self, name: str) -> None:
        _, members, texts = self._open.pop()
        text = "".join(texts)
        if members and text.strip():
            members["#text"] = text.strip()
        above = self._open[-1][1] if self._open else self.found
        made: Any = members or text
        before = above.get(name)
        if before is None:
            above[name] = made
        elif isinstance(before, list):
            before.append(made)
        else:
            above[name] = [before, made]


def _read_yaml(text: str) -> Any:
    yaml = _yaml()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = nodes = 0
    try:
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise RemoteUnavailable("it answered with YAML that has anchors, aliases or tags, which are not read")
            nodes += isinstance(event, yaml.NodeEvent)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH or nodes > MAX_NODES:
                raise RemoteUnavailable(f"it answered with YAML deeper than {MAX_DEPTH}, or of over {MAX_NODES} nodes")
        # By way of JSON: keys become text, and what JSON cannot say is refused.
        return orjson.loads(json.dumps(yaml.load(text, _plain_loader(loader)), allow_nan=False))
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(str(error)) from error


def _plain_loader(loader: Any) -> Any:
    """Return the loader with the plain words of YAML 1.2's core schema: older ones make numbers of `1:30` and `010`."""

    class Loader(loader):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (the package's own attribute)

    for kind, words, firsts in _PLAIN_WORDS:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", words, firsts)
    return Loader


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise RemoteUnavailable(_MISSING) from error
    return yaml


def _element(name: str, held: Any) -> str:
    if not _ELEMENT.fullmatch(name):
        raise RemoteUnavailable(f"{name[:80]!r} cannot be the name of an XML element")
    if isinstance(held, list):
        return "".join(_element(name, one) for one in held)
    if not isinstance(held, Mapping):
        text = "" if held is None else plain(held)
        return f"<{name}>{escape(_checked(text))}</{name}>" if text else f"<{name}/>"
    attributes = "".join(
        f" {key[1:]}={quoteattr(_checked(plain(value)))}"
        for key, value in held.items()
        if key.startswith("@") and _ELEMENT.fullmatch(key[1:])
    )
    inner = escape(_checked(plain(held["#text"]))) if held.get("#text") is not None else ""
    inner += "".join(_element(key, value) for key, value in held.items() if not key.startswith(("@", "#")))
    return f"<{name}{attributes}>{inner}</{name}>"


def _checked(text: str) -> str:
    if _NO_XML.search(text):
        raise RemoteUnavailable("what is sent holds signs that XML cannot")
    return text


def _field(name: str, held: Any) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"'
    if isinstance(held, File):
        head += f'; filename="{held.name}"\r\nContent-Type: application/octet-stream'
        return f"{head}\r\n\r\n".encode() + held.content + b"\r\n"
    return f"{head}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{plain(held)}\r\n".encode("utf-8", "replace")


_READERS = {"json": orjson.loads, "form": _read_form, "xml": _read_xml, "yaml": _read_yaml}
