"""The envelope on its own: whatever the bytes, a checked item or an error comes out."""

import json
import time
from collections.abc import Generator
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcserver.rpc.errors import Code
from rpcserver.rpc.jsonrpc import OUTSIDE, Invalid, Item, Request, Response, encode_error, look, parse, parsing

T = TypeVar("T")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={name: JSON for name in ("jsonrpc", "method", "params", "id", "result", "error")}
    | {"jsonrpc": st.just("2.0") | JSON, "method": st.text() | JSON},
)


def taken(frame: bytes | str) -> list[Item]:
    """Parse with the server's default limits; every item must be one that can be answered."""
    items, is_batch = parse(frame.encode() if isinstance(frame, str) else frame, 100, 64)
    assert items
    assert is_batch or len(items) == 1
    for item in items:
        if isinstance(item, Invalid):
            json.loads(encode_error(item.id, item.error))
    return items


def refused(frame: bytes | str) -> Invalid:
    """Return the one error the frame is answered with."""
    (item,) = taken(frame)
    assert isinstance(item, Invalid)
    return item


@given(st.binary(max_size=300))
def test_any_bytes(frame: bytes) -> None:
    """No bytes make the parser raise."""
    taken(frame)


@given(JSON)
def test_any_json(value: Any) -> None:
    """No JSON makes the parser raise, with characters escaped or not."""
    taken(json.dumps(value))
    taken(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))


@given(NEARLY | st.lists(NEARLY, max_size=5))
def test_what_is_nearly_right(value: Any) -> None:
    """A member of the wrong type is that item's error."""
    taken(json.dumps(value))


@given(
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=10), JSON, max_size=3),
    st.text() | st.integers(-(2**53), 2**53),
)
@settings(max_examples=50)
def test_a_right_request_comes_out_as_it_went_in(method: str, params: dict[str, Any], id: str | int) -> None:
    """Method, params and id are what was sent."""
    frame = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id})
    (item,) = taken(frame)
    if isinstance(item, Request):
        assert (item.method, item.id, item.has_id) == (method, id, True)
        assert json.dumps(item.params) == json.dumps(params)
    else:
        assert isinstance(item, Invalid) and "64 bits" in item.error.data["reason"]


@pytest.mark.parametrize("id", ["0", '""', "1.5", "-1", '"x"', "null"])
def test_ids_that_are_legal(id: str) -> None:
    """Zero, the empty string, fractions and null are ids like others."""
    (item,) = taken(f'{{"jsonrpc":"2.0","method":"a","id":{id}}}')
    assert isinstance(item, Request) and item.has_id
    assert item.id == json.loads(id)


@pytest.mark.parametrize("id", ["true", "false", "[]", "{}", "[1]"])
def test_ids_that_are_not(id: str) -> None:
    """An id that is no string, number or null is an invalid request, answered with id null."""
    item = refused(f'{{"jsonrpc":"2.0","method":"a","id":{id}}}')
    assert (item.error.code, item.id) == (Code.INVALID_REQUEST, None)


@pytest.mark.parametrize("id", ["123456789012345678901234567890", "-9223372036854775809", "9223372036854775808"])
def test_an_id_that_would_lose_digits_is_refused(id: str) -> None:
    """A reply could not repeat the number: it says so instead of answering to another id."""
    item = refused(f'{{"jsonrpc":"2.0","method":"a","id":{id}}}')
    assert (item.error.code, item.id) == (Code.INVALID_REQUEST, None)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "01", "'a'", "{}x", "\ufeff{}", '"\\ud800"'])
def test_what_is_no_json(text: str) -> None:
    """What the JSON standard does not have is a parse error."""
    assert refused(f'{{"jsonrpc":"2.0","method":"a","id":1,"params":[{text}]}}').error.code == Code.PARSE_ERROR


@pytest.mark.parametrize(
    "frame",
    [
        '{"jsonrpc":"2.0","method":"a","method":"b","id":1}',
        '{"jsonrpc":"2.0","method":"a","id":1,"params":{"x":{"y":1,"y":1}}}',
        '{"jsonrpc":"2.0","method":"a","id":1,"params":{"x":":","x":":"}}',
        '[{"jsonrpc":"2.0","method":"a","id":1},{"jsonrpc":"2.0","method":"a","id":2,"id":3}]',
        '{"jsonrpc":"2.0","method":"a","id":1,"params":{"\\u0061":1,"a":2}}',
    ],
)
def test_a_key_that_stands_twice(frame: str) -> None:
    """Which of the two would count is nobody's guess: the message is refused, naming the key."""
    item = refused(frame)
    assert item.error.code == Code.INVALID_REQUEST and "twice" in item.error.data["reason"]


def test_colons_in_text_are_not_keys() -> None:
    """A colon in a string does not make a key."""
    (item,) = taken('{"jsonrpc":"2.0","method":"a","id":1,"params":{"x":"::::"}}')
    assert isinstance(item, Request)


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    """Return a request whose text is nested that deep."""
    around = depth - 1
    return f'{{"jsonrpc":"2.0","method":"a","id":1,"params":{opening * around}{closing * around}}}'


def test_depth_64_is_taken_and_65_is_not() -> None:
    """The message itself is the first level."""
    assert isinstance(taken(nested(64))[0], Request)
    assert "deeper" in refused(nested(65)).error.data["reason"]


def test_a_batch_is_a_level() -> None:
    """The brackets of a batch count, and a part too deep is that part's error only."""
    items = taken(f"[{nested(63)},{nested(64)}]")
    assert isinstance(items[0], Request) and isinstance(items[1], Invalid)


@pytest.mark.parametrize("depth", [900, 1000, 1020, 1024, 1025, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('{"a:":[', "]}")])
def test_nesting_without_end(depth: int, opening: str, closing: str) -> None:
    """However deep, alone or in a batch, it is refused in a moment and nothing overflows."""
    frame = nested(depth // len(closing), opening, closing).replace(closing, "1" + closing, 1)
    start = time.perf_counter()
    assert refused(frame).error.code in (Code.PARSE_ERROR, Code.INVALID_REQUEST)
    for item in taken(f'[{frame},{{"jsonrpc":"2.0","method":"a:b","id":1}}]'):
        assert isinstance(item, Invalid | Request)
    taken(opening * depth)
    assert time.perf_counter() - start < 0.5


def test_a_batch_of_a_hundred_and_one() -> None:
    """A batch over the limit is refused as a whole."""
    assert refused(f"[{','.join(['1'] * 101)}]").error.code == Code.BATCH_TOO_LARGE
    assert len(taken(f"[{','.join(['1'] * 100)}]")) == 100


def test_a_response_is_no_request() -> None:
    """What answers a question of the server is told apart; one that is wrong is never to be answered."""
    assert isinstance(taken('{"jsonrpc":"2.0","result":1,"id":5}')[0], Response)
    assert isinstance(taken('{"jsonrpc":"2.0","error":{"code":1,"message":"x"},"id":5}')[0], Response)
    assert isinstance(taken('{"jsonrpc":"2.0","result":1,"error":{},"id":5}')[0], Invalid)
    assert isinstance(taken('{"jsonrpc":"2.0","error":"x","id":5}')[0], Invalid)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ('"result":1,"error":null', Response(5, 1, None)),
        ('"result":null', Response(5, None, None)),
        ('"result":null,"error":null', Response(5, None, None)),
        ('"result":null,"error":{"code":1}', Response(5, None, {"code": 1})),
        ('"error":{"code":1}', Response(5, None, {"code": 1})),
    ],
)
def test_an_answer_with_a_member_that_is_null(members: str, expected: Response) -> None:
    """JSON-RPC 1.0 and many encoders write both members, one of them null: that is the other one's answer."""
    for frame in (f'{{"jsonrpc":"2.0","id":5,{members}}}', f'{{{members},"id":5}}'):
        assert taken(frame) == [expected]


WRONG_ANSWERS = [
    '{"jsonrpc":"2.0","id":"s1","result":1,"error":{"code":1}}',
    '{"jsonrpc":"2.0","id":"s1","error":"text"}',
    '{"jsonrpc":"2.0","id":"s1","error":5,"result":null}',
    '{"jsonrpc":"2.0","id":"s1","result":"\\ud83d"}',
    '{"jsonrpc":"2.0","id":"s1","result":NaN}',
    '{"jsonrpc":"2.0","id":"s1","result":{"a":1,"a":2}}',
    '{"jsonrpc":"2.0","id":"s1","result":123456789012345678901234567890}',
    '{"jsonrpc":"2.0","id":"s1","result":{"cut',
    f'{{"jsonrpc":"2.0","id":"s1","result":{"[" * 70}{"]" * 70}}}',
    f'{{"jsonrpc":"2.0","id":"s1","result":[{"1," * 30_000}1]}}',
]


@pytest.mark.parametrize("frame", WRONG_ANSWERS, ids=range(len(WRONG_ANSWERS)))
def test_a_wrong_answer_is_known_as_one(frame: str) -> None:
    """Whatever is wrong with an answer, it is known as one, and which question it was meant for."""
    item = refused(frame)
    assert item.is_answer and item.id == "s1"
    for cut in ('"id":"s1",', '"s1"'):
        without = refused(frame.replace(cut, "" if cut.endswith(",") else "[]"))
        assert without.is_answer and without.id is None


@pytest.mark.parametrize("id", ["7", "0", "-1.5", '""', '"a\\"b:1,"', '"\\u00e4"'])
@pytest.mark.parametrize(
    "params",
    [
        '["\\ud83d"]',
        '{"text":"Meeting \\ud83d","id":99}',
        "{",
        '{"x":NaN}',
        '[01,{"id":3}]',
        '{"text":"cut',
        '["back\\',
        '["\\q"]',
        '["a\tb"]',
        "[1,]",
        "'single'",
        '{"text":"\\\\"} trailing',
    ],
)
def test_a_message_that_does_not_parse_is_answered_with_its_id(id: str, params: str) -> None:
    """Before or behind what is wrong: the caller hears which of its calls it was."""
    frame = f'{{"jsonrpc":"2.0","id":{id},"method":"a","params":{params}}}'
    for text in (frame, frame.replace('":', '" : '), frame[:-1]):
        item = refused(text)
        assert (item.error.code, item.id, item.is_answer) == (Code.PARSE_ERROR, json.loads(id), False)


def test_an_id_behind_what_is_wrong() -> None:
    """An encoder may put the id last."""
    assert refused('{"method":"a","params":["\\ud83d"],"jsonrpc":"2.0","id":"x"}').id == "x"


@pytest.mark.parametrize("id", ["[1]", "true", "99999999999999999999", '"\\ud83d"', "1e400", "null"])
def test_an_id_that_cannot_be_read(id: str) -> None:
    """What could not be repeated is answered with null, as a message without an id."""
    assert refused(f'{{"jsonrpc":"2.0","id":{id},"method":"a","params":[NaN]}}').id is None


def test_params_that_are_null_are_none() -> None:
    """`params: null` is what many encoders write for no params."""
    assert taken('{"jsonrpc":"2.0","id":1,"method":"a","params":null}') == [Request("a", {}, 1, True)]


DENSE = ["1,", "[],", "{},", '"",', "[[[[[[]]]]]],", '{"a":1},', "1e300,", "-1.5,", "null,"]


@pytest.mark.parametrize("part", DENSE)
def test_a_message_of_many_values_is_refused_unread(part: str) -> None:
    """A mebibyte may hold half a million values, which cost ten times the memory: more than 20,000 are too many."""
    frame = f'{{"jsonrpc":"2.0","id":1,"method":"a","params":[{part * (2**20 // len(part) - 60)}0]}}'
    item = refused(frame)
    assert (item.error.code, item.id) == (Code.INVALID_REQUEST, 1) and "20000 values" in item.error.data["reason"]


@pytest.mark.parametrize("part", ["a,b,c\\n", "[{", '\\"\\\\,', "{\\u00e9,", ":,"])
def test_a_long_text_is_one_value(part: str) -> None:
    """Commas and brackets inside of a text are no values, however many."""
    text = part * (1_000_000 // len(part))
    assert isinstance(taken(f'{{"jsonrpc":"2.0","id":1,"method":"a","params":["{text}"]}}')[0], Request)


@given(JSON, st.sampled_from(['"x"', "5", "-0.5"]))
def test_the_text_is_read_as_the_parser_reads_it(value: Any, id: str) -> None:
    """The reader of texts counts, finds keys and ids as a parser would, wherever the id stands."""
    body = json.dumps(value)
    for text in (f'{{"id":{id},"p":{body}}}', f'{{"p":{body},"id":{id}}}'):
        looked = whole(look(text.encode()))
        assert (looked.id, looked.names) == (json.loads(id), {"id", "p"})
        assert looked.fault in (None, OUTSIDE)


def test_reading_stops_to_let_others_go_on() -> None:
    """No stretch between two stops is long: of what is dense, of escapes, of keys, of texts."""
    for part, count in (("[],", 9_900), ('"a",', 19_900), ('{"a":1},', 9_900), ('"' + "\\n" * 5000 + '",', 40)):
        frame = f'{{"jsonrpc":"2.0","id":1,"method":"a:b","params":[{part * count}0]}}'
        assert sum(1 for _ in parsing(frame.encode(), 100, 64)) > 15
        whole(parsing(frame.encode(), 100, 64))


def whole(steps: Generator[None, None, T]) -> T:
    """Go all steps and return what comes of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
