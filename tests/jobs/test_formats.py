"""How what is sent is written and what comes is read, and what of strangers is never read."""

import time
from typing import Any

import pytest

from jobs.errors import RemoteUnavailable
from jobs.formats import MAX_NODES, File, read, written

MAPPED = {"text": "a<b & é", "number": 7, "none": None, "list": [1, {"@id": "x", "#text": "y"}], "deep": {"yes": True}}


@pytest.mark.parametrize(
    ("form", "kind", "body"),
    [
        ("json", "application/json", '{"text": "a<b & \\u00e9", "number": 7}'),
        ("form", "application/x-www-form-urlencoded", "text=a%3Cb+%26+%C3%A9&number=7"),
        ("yaml", "application/yaml", "text: a<b & é\nnumber: 7\n"),
        (
            "xml",
            "application/xml",
            '<?xml version="1.0" encoding="UTF-8"?>\n<order><text>a&lt;b &amp; é</text><number>7</number></order>',
        ),
    ],
)
def test_each_form_is_written_by_its_rules(form: str, kind: str, body: str) -> None:
    """Content type and body of text with signs that mean something in each."""
    sent = {name: MAPPED[name] for name in ("text", "number")}
    assert written(form, sent, "order") == (kind, body.encode())


def test_text_is_one_thing_as_it_is() -> None:
    """Text goes as it is, anything else as JSON."""
    assert written("text", {"value": "é"}, "")[1] == "é".encode()
    assert written("text", {"value": [1]}, "") == ("text/plain; charset=utf-8", b"[1]")


def test_xml_is_written_with_lists_attributes_and_depth() -> None:
    """A list is an element after another, `@` an attribute, `#text` the text, null an empty element."""
    body = written("xml", MAPPED, "r")[1].decode()
    assert '<none/><list>1</list><list id="x">y</list><deep><yes>true</yes></deep></r>' in body


@pytest.mark.parametrize("held", [{"a b": 1}, {"1": 1}, {"x": "\x00"}, {"x": {"<": 1}}])
def test_what_xml_cannot_hold_is_told(held: dict[str, Any]) -> None:
    """Names that are none, and signs that XML has not, are no documents."""
    with pytest.raises(RemoteUnavailable):
        written("xml", held, "r")


def test_multipart_parts_fields_and_files() -> None:
    """Each field stands between boundaries that stand nowhere in it; the same fields give the same body."""
    kind, body = written("multipart", {"name": "é", "photo": File("photo", b"\x89PNG\r\n--")}, "")
    boundary = kind.partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert len(parts) == 4 and parts[-1] == b"--\r\n"
    assert b'name="name"' in parts[1] and parts[1].endswith("\r\n\r\né\r\n".encode())
    assert b'name="photo"; filename="photo"' in parts[2] and parts[2].endswith(b"\r\n\r\n\x89PNG\r\n--\r\n")
    assert written("multipart", {"name": "é", "photo": File("photo", b"\x89PNG\r\n--")}, "") == (kind, body)


@pytest.mark.parametrize(
    ("form", "text", "found"),
    [
        ("json", '{"a": [1]}', {"a": [1]}),
        ("json", "", None),
        ("text", "", ""),
        ("form", "a=1&b=x+y&a=2&c=", {"a": ["1", "2"], "b": "x y", "c": ""}),
        ("yaml", "a: [1, 2.5, no, ~, true]\n3: '4'", {"a": [1, 2.5, "no", None, True], "3": "4"}),
        ("yaml", "d: 2024-01-01\nt: 1:30\nm: <<", {"d": "2024-01-01", "t": "1:30", "m": "<<"}),
        ("xml", "<a/>", {"a": ""}),
        ("xml", "<a>x &lt; &#233;</a>", {"a": "x < é"}),
        ("xml", "<a k='v'><b>1</b><b>2</b><c>3</c>t</a>", {"a": {"@k": "v", "b": ["1", "2"], "c": "3", "#text": "t"}}),
        ("xml", "<n:a xmlns:n='urn:x'><![CDATA[<b>]]></n:a>", {"n:a": {"@xmlns:n": "urn:x", "#text": "<b>"}}),
    ],
)
def test_each_form_is_read_as_json_values(form: str, text: str, found: Any) -> None:
    """What programs on either side mean by it; YAML as of today, without its old surprises."""
    assert read(form, text) == found


BOMB = "<!DOCTYPE a [<!ENTITY x 'ha'>" + "".join(f"<!ENTITY y{n} '&y{n - 1};&y{n - 1};'>" for n in range(1, 40)) + "]>"


@pytest.mark.parametrize(
    ("form", "text", "reason"),
    [
        ("json", "{'a': 1}", "did not answer with JSON"),
        ("json", "NaN", "did not answer with JSON"),
        ("json", "1e999", "did not answer with JSON"),
        ("json", "[" * 100_000, "did not answer with JSON"),
        ("form", "a&b&c", "did not answer with FORM"),
        ("form", "&".join(f"a{n}=1" for n in range(2000)), "did not answer with FORM"),
        ("xml", "<a>", "did not answer with XML"),
        ("xml", "<a>&x;</a>", "did not answer with XML"),
        ("xml", BOMB + "<a>&y39;</a>", "document type"),
        ("xml", "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "document type"),
        ("xml", "<!DOCTYPE a [<!ENTITY x SYSTEM 'http://169.254.169.254/'>]><a>&x;</a>", "document type"),
        ("xml", "<a>" * 1000, "deeper than 64"),
        ("xml", "<a>" + "<b/>" * (MAX_NODES + 1) + "</a>", "nodes"),
        ("yaml", "a: b: c", "did not answer with YAML"),
        ("yaml", "[" * 10_000, "deeper than 64|did not answer with YAML"),
        ("yaml", "- a\n" * (MAX_NODES + 1), "over 20000 nodes"),
        ("yaml", "a: &x [1]\nb: *x", "anchors"),
        ("yaml", "!!python/object/apply:os.system ['id']", "tags"),
        ("yaml", "a: !!binary aGk=", "tags"),
        ("yaml", "? [a]\n: 1", "did not answer with YAML"),
        ("yaml", "--- 1\n--- 2", "did not answer with YAML"),
        ("yaml", "9" * 10_000, "did not answer with YAML"),
    ],
)
def test_what_is_not_read_is_told(form: str, text: str, reason: str) -> None:
    """What does not parse, what grows, what reaches elsewhere, what makes objects: no answer, at once."""
    began = time.process_time()
    with pytest.raises(RemoteUnavailable, match=reason):
        read(form, text)
    assert time.process_time() - began < 2


def test_without_the_extra_yaml_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without PyYAML names what is missing."""
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(RemoteUnavailable, match=r"rpcserver\[remotes\]"):
        read("yaml", "a: 1")
