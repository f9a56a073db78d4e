"""What goes to a remote and what of its answer counts: paths that stay in place, secrets unseen."""

import base64
import json
from typing import Any

import pytest

from core.attribute_values import Behind
from core.errors import BadRemote
from core.remotes import Definition, checked
from core.types import Source
from jobs.errors import RemoteUnavailable
from jobs.remotes.client import is_allowed
from jobs.remotes.mapping import Letter, Response, filled, letter, read, taken, written

URL = "https://api.example.com/v1"
SECRET = 's3/cr"e<t'
OF_LAMP = {
    "type": "anna.lamp",
    "owner_name": "anna",
    "seen": {"size": 7},
    "earlier_at": 1,
}


def asked(**attributes: Any) -> Behind:
    """Return an attribute about to be asked by bob, of a lamp of anna's."""
    source = Source("remote", "rm_1")
    return Behind("t_1", "lamp", "u_anna", "set_1", "read", source, attributes, "dark", "u_bob", "bob", **OF_LAMP)  # type: ignore[arg-type]


def made(url: str = URL, **definition: Any) -> Definition:
    """Return a definition that makes sense."""
    return checked("url", Definition(url=url, **definition))


def sent(definition: Definition, value: Any = None, **attributes: Any) -> Letter:
    """Return what goes to the remote; there is one secret for every name."""
    return letter(definition, asked(**attributes), value, lambda name: SECRET)


def test_everything_a_remote_may_be_told() -> None:
    """The written value and the attributes by path, the last answer, caller, owner, type and constants."""
    sources = {
        "a": "value.size.0",
        "b": "token.size.big",
        "c": "earlier",
        "d": "caller.name",
        "e": "owner.name",
        "f": "type",
        "g": "constant:token.size",
    }
    body = json.loads(sent(made(to_remote=sources), {"size": [3]}, size={"big": 9}).body or b"")
    assert body == {"a": 3, "b": 9, "c": "dark", "d": "bob", "e": "anna", "f": "anna.lamp", "g": "token.size"}
    with pytest.raises(RemoteUnavailable, match=r"nothing at 'size.big' to send"):
        sent(made(to_remote=sources), {"size": [3]}, size={})


def test_the_call_identity_is_what_it_names() -> None:
    """Ids, names, what the caller may read and no more, and the earlier answer; nothing that is not named."""
    named = ["token", "type", "attribute", "owner", "caller", "attributes", "earlier"]
    body = json.loads(sent(made(call_identity=named), 1, size=7, price=3).body or b"")
    assert body["value"] == 1
    assert body["call_identity"] == {
        "token": "t_1",
        "type": "anna.lamp",
        "attribute": "read",
        "owner": {"id": "u_anna", "name": "anna"},
        "caller": {"id": "u_bob", "name": "bob"},
        "attributes": {"size": 7},
        "earlier": "dark",
    }
    query = sent(made(call_identity=["token"], send="query"), 1).query
    assert query == {"value": "1", "call_identity": '{"token": "t_1"}'}
    with pytest.raises(BadRemote, match="no place"):
        made(call_identity=["token"], send="text")


@pytest.mark.parametrize(
    ("held", "path"),
    [("a b", "a%20b"), ("é", "%C3%A9"), (7, "7"), ("a?b=c#d", "a%3Fb%3Dc%23d"), ("..a", "..a")],
)
def test_a_segment_is_encoded(held: Any, path: str) -> None:
    """Whatever stands in it is one segment of the path, and nothing of the query."""
    url = filled(f"{URL}/{{id}}/x?id={{id}}", {"id": held})
    assert url.removeprefix("https://api.example.com") == f"/v1/{path}/x?id={{id}}"
    assert is_allowed(url, (URL,))


@pytest.mark.parametrize(
    "held",
    ["", ".", "..", "a/b", "../admin", "..\\admin", "%2e%2e", "%2F", "%252e", "a\x00b", "a\r\nb", None, [1], {"a": 1}],
)
def test_a_segment_never_leaves_its_place(held: Any) -> None:
    """What could climb, on this side or once more decoded on the other, is not sent."""
    with pytest.raises(RemoteUnavailable, match="cannot stand in a path"):
        filled(f"{URL}/{{id}}", {"id": held})


def test_a_host_is_never_filled_in() -> None:
    """Only the path has places for names."""
    with pytest.raises(BadRemote, match="path of the url alone"):
        made("https://{id}.example.com/{id}", path={"id": "value"})
    with pytest.raises(BadRemote, match="has no"):
        made(URL, path={"id": "value"})


def test_authentication_by_reference() -> None:
    """Basic and bearer are made of secrets by name; the definition holds none of them."""
    basic = made(auth="basic", auth_user="constant:anna", auth_secret="key")
    packed = base64.b64encode(f"anna:{SECRET}".encode()).decode()
    assert sent(basic).headers["authorization"] == f"Basic {packed}"
    bearer = made(auth="bearer", auth_secret="key")
    assert sent(bearer).headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in json.dumps([basic.given(), bearer.given()]) + repr(sent(bearer))
    with pytest.raises(RemoteUnavailable, match="colon"):
        sent(made(auth="basic", auth_user="constant:a:b", auth_secret="key"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"auth": "bearer"},
        {"auth": "basic", "auth_secret": "key"},
        {"auth_secret": "key"},
        {"auth": "bearer", "auth_secret": "key", "auth_user": "caller.name"},
        {"auth": "bearer", "auth_secret": "key", "headers": {"authorization": "constant:x"}},
        {"to_remote": {"a": "nonsense"}, "headers": {"a": "value"}},
        {"to_remote": {"a": "value", "b": "value"}, "send": "text"},
        {"take": "a", "from_remote": {"a": "data"}},
        {"from_remote": {"a": "body"}},
        {"from_remote": {"a": "regex:(a+)+$"}},
        {"from_remote": {"a": "code.x"}},
        {"from_remote": {"a": "header:"}},
        {"from_remote": {"a": "data.x..y"}},
        {"good_codes": [200]},
        {"retries": 9},
        {"cool_down_s": 1e9},
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """When it is made, not when it is called."""
    with pytest.raises(BadRemote):
        made(**wrong)


ANSWER = Response(
    201,
    {"etag": "v7", "x-echo": SECRET},
    '{"items": [{"id": 5, "name": "é"}], "total": "12 things"}',
)


def test_several_things_are_taken() -> None:
    """From the data by path, from headers, and the status; what is not there is null."""
    definition = made(
        from_remote={
            "name": "data.items.0.name",
            "all": "data.items",
            "tag": "header:ETag",
            "code": "code",
            "missing": "data.items.7",
            "none": "header:X-None",
        }
    )
    assert taken(definition, sent(definition), ANSWER) == {
        "name": "é",
        "all": [{"id": 5, "name": "é"}],
        "tag": "v7",
        "code": 201,
        "missing": None,
        "none": None,
    }


def test_where_no_data_is_taken_the_answer_need_not_parse() -> None:
    """The status of what is no JSON is taken all the same."""
    definition = made(from_remote={"code": "code"})
    assert taken(definition, sent(definition), Response(200, {}, "<html>")) == {"code": 200}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("json", json.dumps({"echo": SECRET})),
        ("json", '{"echo": "s3\\/cr\\u0022e<t"}'),
        ("json", json.dumps({SECRET: "echo"})),
        ("form", "echo=s3%2Fcr%22e%3Ct"),
        ("text", f"you sent {SECRET} and {base64.b64encode(f'anna:{SECRET}'.encode()).decode()}"),
    ],
)
def test_an_answer_never_tells_a_secret(answer: Any, text: str) -> None:
    """However it is spelled in the answer's format, it is blanked; in headers too."""
    definition = made(auth="basic", auth_user="constant:anna", auth_secret="key", answer=answer)
    found = json.dumps(taken(definition, sent(definition), Response(200, {}, text)))
    for spelled in (SECRET, "s3/cr", "s3\\/cr", base64.b64encode(f"anna:{SECRET}".encode()).decode()):
        assert spelled not in found
    assert "***" in found
    picking = made(auth="bearer", auth_secret="key", from_remote={"b": "header:X-Echo"})
    assert taken(picking, sent(picking), Response(200, {"x-echo": SECRET}, SECRET)) == {"b": "***"}


def test_a_definitions_own_headers_go_before_the_usual_ones() -> None:
    """A content type of its own is kept, where the body does not depend on it; nothing asks for packed answers."""
    own = {"Content-Type": "constant:application/vnd.api+json", "ACCEPT": "constant:x/y", "X-By": "caller.name"}
    headers = sent(made(headers={**own, "Accept-Encoding": "constant:gzip"})).headers
    assert headers == {
        "content-type": "application/vnd.api+json",
        "accept": "x/y",
        "x-by": "bob",
        "user-agent": "rpcserver",
        "accept-encoding": "identity",
    }


def test_an_answer_too_deep_is_none() -> None:
    """What could not be passed on is refused where it comes in."""
    definition = made()
    with pytest.raises(RemoteUnavailable, match="64 deep"):
        taken(definition, sent(definition), Response(200, {}, "[" * 100 + "]" * 100))


def test_each_form_is_written_by_its_rules() -> None:
    """Content type and body of text with signs that mean something in each; text is one thing as it is."""
    mapped = {"text": "a<b & é", "number": 7}
    assert written("json", mapped) == ("application/json", b'{"text": "a<b & \\u00e9", "number": 7}')
    form = b"text=a%3Cb+%26+%C3%A9&number=7"
    assert written("form", mapped) == ("application/x-www-form-urlencoded", form)
    assert written("text", {"value": "é"}) == ("text/plain; charset=utf-8", "é".encode())
    assert written("text", {"value": [1]})[1] == b"[1]"


@pytest.mark.parametrize(
    ("form", "text", "found"),
    [
        ("json", '{"a": [1]}', {"a": [1]}),
        ("json", "", None),
        ("text", "", ""),
        ("text", "<a/>", "<a/>"),
        ("form", "a=1&b=x+y&a=2&c=", {"a": ["1", "2"], "b": "x y", "c": ""}),
    ],
)
def test_each_form_is_read_as_json_values(form: str, text: str, found: Any) -> None:
    """What programs on either side mean by it."""
    assert read(form, text) == found


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", "{'a': 1}"),
        ("json", "NaN"),
        ("json", "1e999"),
        ("json", "[" * 100_000),
        ("form", "a&b&c"),
        ("form", "&".join(f"a{n}=1" for n in range(2000))),
    ],
)
def test_what_is_not_read_is_told(form: str, text: str) -> None:
    """What does not parse and what grows is no answer."""
    with pytest.raises(RemoteUnavailable, match=f"did not answer with {form.upper()}"):
        read(form, text)
