"""What a remote's definition says of repeating, waiting and remembering, over real HTTP on this machine."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from core.activity import Try
from jobs.errors import RemoteCooling, RemoteUnavailable
from jobs.remotes.client import RemoteLimits, Remotes, Reply
from store import Clock
from tests.jobs.test_remoting import LOOPBACK, asked, remote_to
from tests.webserver import Web, reply


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A web server on this machine."""
    made = await Web().start()
    yield made
    made.delay.set()
    made.server.close()


@pytest.fixture
async def remotes(web: Web) -> AsyncIterator[Remotes]:
    """Remotes that may go to that server, quick to try again, with a second's time for all tries."""
    hosts = (f"http://127.0.0.1:{web.port}",)
    made = Remotes(RemoteLimits(hosts, LOOPBACK, write_timeout_s=1.0, backoff_s=0.01, calls_per_user=20), Clock())
    yield made
    await made.close()


def answering(*answers: bytes) -> Callable[[str], bytes]:
    """Return what answers a request after another so, the last one for ever."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


async def call(
    remotes: Remotes, web: Web, *, is_write: bool = True, caller: str = "bob", **definition: Any
) -> tuple[Reply | RemoteUnavailable, list[Try]]:
    """Call a remote at the server and return what came of it, with each try."""
    tries: list[Try] = []
    remote = remote_to(f"http://127.0.0.1:{web.port}/api", **definition)
    try:
        return await remotes.call(remote, "owner", asked(caller), 1, is_write=is_write, tries=tries), tries
    except RemoteUnavailable as error:
        return error, tries


BUSY = reply(b"", "503 Busy")
FINE = reply(b'"fine"')


@pytest.mark.parametrize(
    ("definition", "times"),
    [
        ({"method": "GET"}, 3),
        ({"method": "PUT"}, 3),
        ({"method": "DELETE"}, 3),
        ({"method": "POST"}, 1),
        ({"method": "PATCH"}, 1),
        ({"method": "POST", "retries": 4}, 5),
        ({"method": "GET", "retries": 0}, 1),
    ],
)
async def test_only_what_may_be_is_tried_again(
    web: Web, remotes: Remotes, definition: dict[str, Any], times: int
) -> None:
    """GET, PUT and DELETE, or as the definition says; each try is told with its status."""
    web.answer = answering(BUSY)
    ended, tries = await call(remotes, web, **definition)
    assert isinstance(ended, RemoteUnavailable) and ended.status == 503
    assert (len(web.seen), [(one.state, one.code) for one in tries]) == (times, [("failed", 503)] * times)


async def test_a_try_that_succeeds_is_the_last(web: Web, remotes: Remotes) -> None:
    """What failed before it is told as well."""
    web.answer = answering(BUSY, reply(b"", "500 No"), FINE)
    ended, tries = await call(remotes, web, method="PUT")
    assert isinstance(ended, Reply) and ended.value == "fine"
    assert [(one.state, one.code) for one in tries] == [("failed", 503), ("failed", 500), ("succeeded", 200)]
    assert tries[0].began_at <= tries[1].began_at <= tries[2].began_at


@pytest.mark.parametrize("answer", [reply(b"", "404 No"), reply(b"<"), reply(b"", "302 Found", "Location: /")])
async def test_what_another_try_would_not_change_is_not_tried(web: Web, remotes: Remotes, answer: bytes) -> None:
    """A clear no, an answer that cannot be read, a redirect."""
    web.answer = answering(answer)
    assert len((await call(remotes, web, method="GET"))[1]) == 1


async def test_a_connection_that_fails_is_tried_again(web: Web, remotes: Remotes) -> None:
    """The server hangs up, and is there the next time."""
    web.answer = answering(b"", FINE)
    ended, tries = await call(remotes, web, method="GET")
    assert isinstance(ended, Reply) and [one.state for one in tries] == ["failed", "succeeded"]


async def test_reading_never_tries_again(web: Web, remotes: Remotes) -> None:
    """A listing is not kept waiting."""
    web.answer = answering(BUSY, FINE)
    ended, tries = await call(remotes, web, is_write=False, method="GET", retries=5)
    assert isinstance(ended, RemoteUnavailable) and len(tries) == 1


@pytest.mark.parametrize("text", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_the_wait_a_server_asks_for_is_kept(web: Web, remotes: Remotes, text: str) -> None:
    """As seconds or as a date, when there is time for it."""
    web.answer = answering(reply(b"", "429 Slow", f"Retry-After: {text}"), FINE)
    assert isinstance((await call(remotes, web, method="GET"))[0], Reply)


async def test_a_wait_beyond_the_deadline_ends_the_call_at_once(web: Web, remotes: Remotes) -> None:
    """Nobody is kept waiting for nothing: the error says when to come again."""
    web.answer = answering(reply(b"", "429 Slow", "Retry-After: 5"), FINE)
    began = asyncio.get_running_loop().time()
    ended, tries = await call(remotes, web, method="GET")
    assert isinstance(ended, RemoteUnavailable) and (ended.retry_after_ms, len(tries)) == (5000, 1)
    assert "left alone for 5 s" in str(ended) and asyncio.get_running_loop().time() - began < 0.9


async def test_all_tries_share_one_deadline(web: Web, remotes: Remotes) -> None:
    """A server that never answers is waited for once, as long as a write may take."""
    web.delay.clear()
    ended, tries = await call(remotes, web, method="GET", retries=5)
    assert isinstance(ended, RemoteUnavailable) and "longer than 1 s" in str(ended)
    assert [(one.state, one.code) for one in tries] == [("failed", None)] and tries[0].duration_ms >= 900


async def test_each_try_counts_for_the_rates(web: Web, remotes: Remotes) -> None:
    """What is tried again uses the remote's calls up."""
    web.answer = answering(BUSY)
    ended, tries = await call(remotes, web, method="GET", calls=2, per_s=1000)
    assert len(tries) == 2 and "too often" in str(ended)


async def test_calls_too_near_together_are_refused(web: Web, remotes: Remotes) -> None:
    """From the beginning of one call on, whoever makes the next; the error says for how long."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]
    assert isinstance((await call(remotes, web, cool_down_s=10))[0], Reply)
    clock[0] = 9.5
    ended, tries = await call(remotes, web, cool_down_s=10, caller="carl")
    assert isinstance(ended, RemoteCooling) and (ended.retry_after_ms, len(web.seen)) == (500, 1)
    assert [(one.state, one.code) for one in tries] == [("failed", None)]
    clock[0] = 10
    assert isinstance((await call(remotes, web, cool_down_s=10, caller="carl"))[0], Reply)


async def test_an_old_answer_may_stand_in_while_it_cools_down(web: Web, remotes: Remotes) -> None:
    """Where the definition allows it, for reading, and for the same caller alone."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]
    options: dict[str, Any] = {"cool_down_s": 10, "is_cache_used_in_cool_down": True, "is_write": False}
    first = (await call(remotes, web, **options))[0]
    again, tries = await call(remotes, web, **options)
    assert isinstance(first, Reply) and isinstance(again, Reply)
    assert (again.is_cached, again.value, again.as_of, tries[0].state) == (True, first.value, first.as_of, "cached")
    for other in ({"caller": "carl"}, {"is_write": True}, {"is_cache_used_in_cool_down": False}):
        assert isinstance((await call(remotes, web, **{**options, **other}))[0], RemoteCooling)


async def test_a_write_forgets_what_was_remembered(web: Web, remotes: Remotes) -> None:
    """Of that token, for everybody; of another token it stays."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]
    remote = remote_to(f"http://127.0.0.1:{web.port}/api", cache_s=100)

    async def read(caller: str) -> bool:
        return (await remotes.call(remote, "owner", asked(caller), None, is_write=False)).is_cached

    assert [await read("bob"), await read("bob"), await read("carl"), await read("carl")] == [False, True, False, True]
    await remotes.call(remote, "owner", asked("anna"), 1, is_write=True)
    assert [await read("bob"), await read("carl"), await read("bob")] == [False, False, True]


async def test_a_write_that_fails_forgets_too(web: Web, remotes: Remotes) -> None:
    """Nobody knows what became of it, so an old answer stands in for nothing."""
    remote = remote_to(f"http://127.0.0.1:{web.port}/api", cache_s=100, is_cache_used_on_failure=True)
    await remotes.call(remote, "owner", asked(), None, is_write=False)
    web.answer = answering(BUSY)
    for is_write in (True, False):
        with pytest.raises(RemoteUnavailable):
            await remotes.call(remote, "owner", asked(), None, is_write=is_write)


async def test_the_rate_is_exact_at_its_boundary(web: Web, remotes: Remotes) -> None:
    """So many calls, and not one more until there is room again; a changed definition counts at once."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]

    async def is_made(**definition: Any) -> bool:
        return isinstance((await call(remotes, web, **definition))[0], Reply)

    assert [await is_made(calls=3, per_s=30) for _ in range(4)] == [True, True, True, False]
    clock[0] = 9.99
    assert not await is_made(calls=3, per_s=30)
    clock[0] = 10
    assert [await is_made(calls=3, per_s=30) for _ in range(2)] == [True, False]
    assert await is_made(calls=4, per_s=30)


async def test_a_caller_has_so_many_calls_over_all_remotes(web: Web, remotes: Remotes) -> None:
    """His twentieth is made, his next is not, whatever the remote; others call on."""
    clock = [0.0]
    remotes._clock = lambda: clock[0]
    made = [isinstance((await call(remotes, web, calls=100))[0], Reply) for _ in range(21)]
    assert made == [True] * 20 + [False]
    assert isinstance((await call(remotes, web, caller="carl", calls=100))[0], Reply)


async def test_so_many_at_once_and_not_one_more(web: Web, remotes: Remotes) -> None:
    """Exactly `concurrent` run; when they have ended, others may."""
    web.delay.clear()
    running = [asyncio.create_task(call(remotes, web, concurrent=3)) for _ in range(3)]
    while len(web.seen) < 3:
        await web.arrived.wait()
        web.arrived.clear()
    ended, _ = await call(remotes, web, concurrent=3)
    assert "as many calls" in str(ended)
    web.delay.set()
    assert all(isinstance(one, Reply) for one, _ in await asyncio.gather(*running))
    assert isinstance((await call(remotes, web, concurrent=3))[0], Reply)


async def test_statuses_that_are_answers(web: Web, remotes: Remotes) -> None:
    """A definition may take a 404 as an answer, and say which it was; nothing else is let through."""
    web.answer = answering(reply(b'{"why": "gone"}', "404 Not Found", "X-Reason: moved"))
    taken = {"code": "code", "why": "data.why", "reason": "header:x-reason"}
    ended, tries = await call(remotes, web, good_codes=[404], from_remote=taken)
    assert isinstance(ended, Reply) and ended.value == {"code": 404, "why": "gone", "reason": "moved"}
    assert tries[0].state == "succeeded"
    assert isinstance((await call(remotes, web, good_codes=[410]))[0], RemoteUnavailable)


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ("é".encode(), "text/plain", "é"),
        ("é".encode("latin-1"), "text/plain; charset=ISO-8859-1", "é"),
        (b"x", "text/plain; charset=punycode", None),
    ],
)
async def test_answers_in_other_character_sets(web: Web, remotes: Remotes, body: bytes, kind: str, text: str) -> None:
    """As the header says; those that could be a burden are not read."""
    web.answer = answering(reply(body, "200 OK", f"Content-Type: {kind}"))
    ended, _ = await call(remotes, web, answer="text", retries=0)
    assert (text in ended.value) if isinstance(ended, Reply) else text is None


async def test_what_is_sent_is_bounded(web: Web) -> None:
    """A body, an address or headers longer than they may be are not sent."""
    hosts = (f"http://127.0.0.1:{web.port}",)
    remotes = Remotes(RemoteLimits(hosts, LOOPBACK, sent_bytes=1000), Clock())

    async def is_sent(length: int, **definition: Any) -> bool:
        remote = remote_to(f"http://127.0.0.1:{web.port}/api", **definition)
        try:
            await remotes.call(remote, "owner", asked(), "x" * length, is_write=True)
        except RemoteUnavailable as error:
            assert "would be sent more" in str(error)
            return False
        return True

    around = len('{"value": ""}')
    assert [await is_sent(1000 - around), await is_sent(1001 - around)] == [True, False]
    assert [await is_sent(2000, send="query"), await is_sent(20_000, send="query")] == [True, False]
    assert len(web.seen) == 2
    await remotes.close()
