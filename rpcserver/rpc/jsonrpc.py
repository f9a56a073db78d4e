"""JSON-RPC 2.0 without input or output: bytes -> checked envelope items -> reply bytes.

It stands in front of jsonrpcserver, which keeps the method table, checks the arguments and makes the call, one item
at a time. What that package would do to a hostile frame never happens: the envelope is checked here.
Source: the JSON-RPC 2.0 specification; protocol.md 2 and 9.
"""

import inspect
import json
import math
import re
from collections import OrderedDict
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from jsonrpcserver.dispatcher import dispatch_request
from jsonrpcserver.methods import Method
from jsonrpcserver.request import Request as Call
from oslash.either import Left

from rpcserver.errors import BatchTooLarge, InvalidParams, InvalidRequest, MethodNotFound, ParseError, RequestTooLarge
from rpcserver.rpc.errors import Code, ErrorObject, describe

Id = str | int | float | None

MIN_INT, MAX_INT = -(2**63), 2**63 - 1
MAX_VALUES = 20_000
MAX_NESTING = 1000  # no parser reads what is nested deeper
STEP = 250
OUTSIDE = "an integer is outside 64 bits: send it as a string"

# Up to where a string goes on; a limited number of escapes at a time, for there may be a million of them.
_REST = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+){0,1000}', re.DOTALL)
_COLON = re.compile(rb"\s*+:\s*+")
# Between strings: what opens and closes, and whole numbers that are long.
_TOKEN = re.compile(rb"[{}\[\]]|-?\d[\d.eE+-]{18,}+")
_NUMBER = re.compile(rb"-?\d[\d.eE+-]*+")


@dataclass(slots=True)
class Looked:
    """What was found in a text.

    Args:
        values: how many values it has, exactly unless it has more than were asked for.
        fault: what a parser would have passed over in silence.
        names: the keys of the outermost object, as far as they could be read.
        id: the value of its key `id`; None where none could be read.
    """

    values: int = 0
    fault: str | None = None
    names: set[str] = field(default_factory=set)
    id: Id = None


def look(text: bytes, max_values: int = MAX_VALUES) -> Generator[None, None, Looked]:
    """Read a text to its end, or until it has more values than asked for, or is nested without end."""
    found = Looked()
    keys: list[set[str] | None] = []  # of each object that is open; None for a list
    at = steps = 0
    is_id_next = False
    while at < len(text) and found.values <= max_values:
        begin = text.find(b'"', at)
        gap_end = len(text) if begin < 0 else begin
        found.values += text.count(b",", at, gap_end)
        for token in _TOKEN.finditer(text, at, gap_end):
            _take(found, keys, token[0])
            steps += 1
            if steps % STEP == 0:
                yield
            if found.values > max_values or len(keys) > MAX_NESTING:
                return found
        if begin < 0:
            return found
        end = begin + 1
        while (on := _REST.match(text, end).end()) < len(text) and text[on] != 0x22 and on > end:  # type: ignore[union-attr]
            end = on
            yield
        at = on + 1
        if is_id_next:
            found.id = _id(text[begin:at])
            is_id_next = False
        colon = _COLON.match(text, at)
        if colon is not None and keys and keys[-1] is not None:
            name = _name(found, keys[-1], text[begin:at])
            at = colon.end()
            if len(keys) == 1:
                found.names.add(name)
                if name == "id":
                    number = _NUMBER.match(text, at)
                    found.id = _id(number[0]) if number else None
                    is_id_next = text[at : at + 1] == b'"'
        steps += 1
        if steps % STEP == 0:
            yield
    return found


def _take(found: Looked, keys: list[set[str] | None], token: bytes) -> None:
    if token in b"{[":
        found.values += 1
        keys.append(set() if token == b"{" else None)
    elif token in b"}]":
        if keys:
            keys.pop()
    elif token.lstrip(b"-").isdigit() and not MIN_INT <= int(token[:40]) <= MAX_INT:
        found.fault = found.fault or OUTSIDE


def _name(found: Looked, seen: set[str], quoted: bytes) -> str:
    try:
        name = str(orjson.loads(quoted))
    except orjson.JSONDecodeError:
        name = quoted.decode("utf-8", "replace")
    if name in seen:
        found.fault = found.fault or f"the key {name[:80]!r} stands twice in one object"
    seen.add(name)
    return name


def _id(text: bytes) -> Id:
    """Return the id that a text stands for, None for what is none, or cannot be repeated."""
    try:
        id: Id = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return id if isinstance(id, str) or (id is not None and MIN_INT <= id <= MAX_INT) else None


_MANY = 2**40  # more than any message has keys


@dataclass(frozen=True, slots=True)
class Request:
    """A request, or a notification when it has no id."""

    method: str
    params: dict[str, Any] | list[Any]
    id: Id
    has_id: bool


@dataclass(frozen=True, slots=True)
class Response:
    """The client's answer to a request of ours."""

    id: Id
    result: Any
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Invalid:
    """An item that is not JSON-RPC, and the error it is answered with; what was meant as an answer gets none."""

    error: ErrorObject
    id: Id
    is_answer: bool = False


Item = Request | Response | Invalid
Steps = Generator[None, None, tuple[list[Item], bool]]


class Names(inspect.Signature):
    """The signature of a function of a context and these parameters, each of which may be left out.

    jsonrpcserver binds the arguments of every call only to see whether that raises: here two looks tell, and only where
    they do not fit is the signature made, whose words say why.
    """

    __slots__ = ("_names",)

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self._names = dict.fromkeys(names)

    def bind(self, /, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """Raise TypeError when the arguments do not fit."""
        if len(args) == 1 and kwargs.keys() <= self._names.keys():
            return inspect.BoundArguments(self, OrderedDict())
        kind, keyword = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        given = [inspect.Parameter(name, keyword, default=None) for name in self._names]
        return inspect.Signature([inspect.Parameter("call", kind), *given]).bind(*args, **kwargs)


def plain(frame: bytes, max_depth: int) -> Item | None:
    """Return the item of a message that is one and has no fault; None for any other, which `parsing` looks at."""
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict):
        return None
    keys, fault = _walk([(message, 1)], max_depth, math.inf)
    return None if fault is not None or frame.count(b":") != keys else _item(message)


def parse(frame: bytes, max_items: int, max_depth: int, max_values: int = MAX_VALUES) -> tuple[list[Item], bool]:
    """Return what `parsing` returns, at once."""
    return whole(parsing(frame, max_items, max_depth, max_values))


def whole(steps: Steps) -> tuple[list[Item], bool]:
    """Go all the steps, and return what comes of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            parsed: tuple[list[Item], bool] = end.value
            return parsed


def parsing(frame: bytes, max_items: int, max_depth: int, max_values: int = MAX_VALUES) -> Steps:
    """Return the items of one message, and whether they came as a batch; stop every now and then on the way.

    A message that cannot be used as a whole gives one `Invalid` and is no batch.
    """
    looked = None
    if len(frame) > max_values and sum(map(frame.count, (b",", b"[", b"{"))) > max_values:
        looked = yield from look(frame, max_values)
        if looked.values > max_values:
            reason = f"it holds more than {max_values} values: send it in parts"
            is_batch = frame.lstrip()[:1] == b"["
            return [_refused(_batch_too_large(reason) if is_batch else _invalid(reason), looked)], False
    try:
        message = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        looked = looked or (yield from look(frame, max_values))
        return [_refused(_parse_error(str(error)), looked)], False
    if not isinstance(message, list):
        keys, item = yield from _checked(message, max_depth)
        fault = None if isinstance(item, Invalid) else (yield from _hidden_fault(frame, keys, looked, max_values))
        if fault is None:
            return [item], False
        return [_told(fault, message)], False
    if not message:
        return [Invalid(_invalid("a batch must hold at least one call"), None)], False
    if len(message) > max_items:
        reason = f"a batch may hold {max_items} items, this one has {len(message)}: send it in parts"
        return [Invalid(_batch_too_large(reason), None)], False
    items, keys = [], 0
    for part in message:
        found, item = yield from _checked(part, max_depth - 1)
        keys += found
        items.append(item)
    fault = yield from _hidden_fault(frame, keys, looked, max_values)
    return ([Invalid(fault, None)], False) if fault else (items, True)


def too_large(max_bytes: int, size: int) -> ErrorObject:
    """Return the error for a message over the limit of a connection that is not authenticated yet."""
    reason = f"a message may have {max_bytes} bytes before authentication, this one has {size}"
    return describe(RequestTooLarge("Request too large", reason=reason))


def call(methods: dict[str, Method], context: Any, request: Request) -> Any:
    """Have jsonrpcserver look the method up, check its arguments and call it.

    Returns what the method put into `Success` (it may be awaitable), or an ErrorObject.
    """
    _, result = dispatch_request(methods, context, Call(request.method, request.params, request.id))
    if not isinstance(result, Left):
        return result._value.result
    error = result._error
    # The package's own words never reach the client: for a wrong argument they are Python's, which name no parameter.
    if error.code == Code.METHOD_NOT_FOUND:
        return method_not_found(request.method)
    if error.code == Code.INVALID_PARAMS:
        return describe(InvalidParams(_bad_arguments(methods[request.method], request)))
    return ErrorObject(error.code, error.message, error.data)


def method_not_found(name: str, near: Collection[str] = ()) -> ErrorObject:
    """Return the error for an unknown method; `near` are the names it may have been meant as."""
    hint = f"did you mean {', '.join(near)}?" if near else "rpc.discover and server.info name the methods there are"
    return describe(MethodNotFound("Method not found", reason=f"no method {name[:80]!r}: {hint}"))


def encode_result(id: Id, result: Any) -> bytes:
    """Return a response; `result` that is bytes already is JSON and stands as it is."""
    body = result if isinstance(result, bytes) else orjson.dumps(result)
    return b'{"jsonrpc":"2.0","result":%b,"id":%b}' % (body, orjson.dumps(id))


def encode_error(id: Id, error: ErrorObject) -> bytes:
    """Return an error response, whatever stands in the error: there is no other way left to tell it."""
    response = {"jsonrpc": "2.0", "error": error.as_dict(), "id": id}
    try:
        return orjson.dumps(response)
    except orjson.JSONEncodeError:
        return json.dumps(response, default=repr).encode()


def encode_batch(replies: list[bytes]) -> bytes:
    """Return one message for the replies of a batch."""
    return b"[%b]" % b",".join(replies)


def encode_notification(method: str, params: Mapping[str, Any]) -> bytes:
    """Return a notification."""
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params})


def encode_request(id: Id, method: str, params: Mapping[str, Any]) -> bytes:
    """Return a request."""
    return orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": id})


def _item(value: Any) -> Item:
    if not isinstance(value, dict):
        return Invalid(_invalid("an item must be an object"), None)
    if _is_answer(value):
        return _response(value)
    id = value.get("id")
    has_valid_id = id is None or (isinstance(id, str | int | float) and not isinstance(id, bool))
    reply_id = id if has_valid_id else None
    if value.get("jsonrpc") != "2.0":
        return Invalid(_invalid('"jsonrpc" must be "2.0"'), reply_id)
    if not has_valid_id:
        return Invalid(_invalid('"id" must be a string, a number or null'), None)
    method = value.get("method")
    if not isinstance(method, str):
        return Invalid(_invalid('"method" must be a string'), reply_id)
    params = value.get("params")
    if params is None:
        params = {}  # many encoders write what is not there as null
    elif not isinstance(params, dict | list):
        return Invalid(_invalid('"params" must be an object or an array'), reply_id)
    return Request(method, params, id, "id" in value)


def _is_answer(value: Collection[str]) -> bool:
    return "method" not in value and ("result" in value or "error" in value)


def _response(value: dict[str, Any]) -> Item:
    id, result, error = value.get("id"), value.get("result"), value.get("error")
    id = id if isinstance(id, str | int | float) else None
    if error is not None and (result is not None or not isinstance(error, dict)):
        reason = "a response has a result or an error, and its error is an object"
        return Invalid(_invalid(reason), id, is_answer=True)
    return Response(id, result, error)


def _refused(error: ErrorObject, looked: Looked) -> Invalid:
    """Return what a message stands for that cannot be used, as far as its text could be read."""
    return Invalid(error, looked.id, _is_answer(looked.names))


def _told(error: ErrorObject, value: Any) -> Invalid:
    return Invalid(error, _known_id(value), isinstance(value, dict) and _is_answer(value))


def _checked(value: Any, max_depth: int) -> Generator[None, None, tuple[int, Item]]:
    """Return how many keys the value holds at all depths, and the item it stands for."""
    stack = [(value, 1)]
    keys = 0
    while True:
        found, fault = _walk(stack, max_depth, STEP)
        keys += found
        if fault is not None:
            return keys, _told(_invalid(fault), value)
        if not stack:
            return keys, _item(value)
        yield


def _walk(stack: list[tuple[Any, int]], max_depth: int, most: float) -> tuple[int, str | None]:
    """Look at the parts in the stack, and those inside of them, until many are done; return their keys, and a fault.

    The number of keys is negative when the text has to be looked at: a large float may have been an integer there.
    """
    keys = done = 0
    while stack and done < most:
        part, depth = stack.pop()
        if depth > max_depth:
            return keys, f"it is nested deeper than {max_depth}"
        if isinstance(part, dict):
            keys += len(part)
            children: Any = part.values()
        else:
            children = part if isinstance(part, list) else (part,)
        for child in children:
            if isinstance(child, dict | list):
                stack.append((child, depth + 1))
            elif isinstance(child, int) and not MIN_INT <= child <= MAX_INT:
                return keys, OUTSIDE
            elif isinstance(child, float) and not MIN_INT < child < MAX_INT:
                keys -= _MANY
        done += 1 + len(children)
    return keys, None


def _known_id(value: Any) -> Id:
    """Return the id of an item that cannot be used, so that whoever waits for its answer hears of it."""
    id = value.get("id") if isinstance(value, dict) else None
    is_number = isinstance(id, int | float) and not isinstance(id, bool) and MIN_INT < id < MAX_INT
    return id if isinstance(id, str) or is_number else None


def _hidden_fault(
    frame: bytes, keys: int, looked: Looked | None, max_values: int
) -> Generator[None, None, ErrorObject | None]:
    # Each key has a colon behind it: when the text has no more colons than the result has keys, none was repeated.
    # Else, as with a colon inside a string, the text is looked at.
    if frame.count(b":") == keys:
        return None
    looked = looked or (yield from look(frame, max_values))
    return None if looked.fault is None else _invalid(looked.fault)


def _bad_arguments(method: Method, request: Request) -> str:
    names = list(method.__signature__.parameters)[1:]  # type: ignore[attr-defined]
    takes = f"{request.method} takes {', '.join(names) or 'no params'}"
    if isinstance(request.params, dict):
        unknown = [name for name in request.params if name not in names]
        return f"unknown: {', '.join(unknown)[:200]}; {takes}"
    return f"{len(request.params)} by position are too many; {takes}"


def _parse_error(reason: str) -> ErrorObject:
    return describe(ParseError("Parse error", reason=reason))


def _invalid(reason: str) -> ErrorObject:
    return describe(InvalidRequest("Invalid Request", reason=reason))


def _batch_too_large(reason: str) -> ErrorObject:
    return describe(BatchTooLarge("Batch too large", reason=reason))
