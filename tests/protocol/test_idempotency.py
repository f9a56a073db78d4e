"""Idempotency keys: whatever happens between a call and its repetition, it runs once and is answered alike."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import rpcserver.app
from rpcserver.client import CallError, Client, Disconnected
from rpcserver.rpc.calls import method
from rpcserver.schemas.session import NoParams, Params
from rpcserver.services import Call
from store import Store, StoreFull
from tests.conftest import Running, run_server


class Number(Params):
    """A number."""

    n: int = 0


class Counter:
    """Counts how often the test's methods run."""

    def __init__(self) -> None:
        self.runs = 0
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.error: Exception | None = None


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Give servers the methods test.count (runs at once), test.slow (waits for the gate) and test.look (a read)."""
    counter = Counter()

    @method("test.count", Number)
    def count(call: Call, params: Number) -> int:
        """Count."""
        counter.runs += 1
        if counter.error is not None:
            raise counter.error
        return counter.runs

    @method("test.slow", Number)
    async def slow(call: Call, params: Number) -> int:
        """Count, then wait."""
        counter.runs += 1
        counter.begun.set()
        await counter.gate.wait()
        return counter.runs

    @method("test.look", NoParams, is_change=False)
    def look(call: Call, params: NoParams) -> int:
        """Look."""
        counter.runs += 1
        return counter.runs

    monkeypatch.setattr(rpcserver.app, "METHODS", (*rpcserver.app.METHODS, count, slow, look))
    return counter


async def refusal(client: Client, method: str, **params: Any) -> CallError:
    """Call and return the error."""
    with pytest.raises(CallError) as caught:
        await client.call(method, **params)
    return caught.value


async def test_a_repeated_key_gives_the_first_answer(counter: Counter, server: Running, anna: Client) -> None:
    """The second call does not run, from whichever connection; a new key does; a key is the user's own."""
    assert await anna.call("test.count", idempotency_key="k") == 1
    assert await anna.call("test.count", idempotency_key="k") == 1
    assert await (await server.client("anna")).call("test.count", idempotency_key="k") == 1
    assert await anna.call("test.count", idempotency_key="other") == 2
    assert await (await server.client("bob")).call("test.count", idempotency_key="k") == 3
    assert await anna.call("test.count") == 4


async def test_a_real_change_is_made_once(server: Running, anna: Client, shelf: str) -> None:
    """session.create under one key makes one session; the answer is the same to the letter."""
    first = await anna.call("session.create", name="once", idempotency_key="s")
    assert await anna.call("session.create", name="once", idempotency_key="s") == first
    assert [record.name for record in await anna.list_sessions()].count("once") == 1
    moved = await anna.call("session.cd", session_id=first["session_id"], set_id=shelf, idempotency_key="m")
    await anna.cd(first["session_id"], to="home")
    again = await anna.call("session.cd", session_id=first["session_id"], set_id=shelf, idempotency_key="m")
    assert again == moved
    assert (await anna.ls(first["session_id"])).current_set.id != shelf


async def test_another_body_is_a_conflict(counter: Counter, anna: Client) -> None:
    """The key belongs to one method and one set of params, whatever the order of their names."""
    await anna.call("test.count", n=1, idempotency_key="k")
    for name, params in (("test.count", {"n": 2}), ("test.count", {}), ("test.slow", {"n": 1})):
        error = await refusal(anna, name, **params, idempotency_key="k")
        assert (error.code, error.kind) == (-32015, "IDEMPOTENCY_CONFLICT")
    assert counter.runs == 1


async def test_a_running_call_is_attached_to(counter: Counter, server: Running, anna: Client) -> None:
    """A repetition while the first runs waits for its answer; another body is a conflict already then."""
    sister = await server.client("anna")
    first = asyncio.ensure_future(anna.call("test.slow", idempotency_key="k"))
    await counter.begun.wait()
    second = asyncio.ensure_future(sister.call("test.slow", idempotency_key="k"))
    assert (await refusal(sister, "test.slow", n=9, idempotency_key="k")).kind == "IDEMPOTENCY_CONFLICT"
    counter.gate.set()
    assert (await first, await second, counter.runs) == (1, 1, 1)


async def test_a_dropped_connection_does_not_run_it_twice(counter: Counter, server: Running) -> None:
    """The client goes away in the middle and asks again from a new connection: it gets the one answer."""
    client = Client(server.url, await server.credential("anna"))
    await client.connect()
    call = asyncio.ensure_future(client.call("test.slow", idempotency_key="k"))
    await counter.begun.wait()
    assert client._socket is not None
    client._socket.transport.abort()
    with pytest.raises(Disconnected):
        await call
    again = asyncio.ensure_future((await server.client("anna")).call("test.slow", idempotency_key="k"))
    counter.gate.set()
    assert (await again, counter.runs) == (1, 1)


async def test_errors_are_answers(counter: Counter, anna: Client) -> None:
    """A refusal of the method is its first answer; params that do not fit never ran and are no answer to keep."""
    counter.error = LookupError()
    first = await refusal(anna, "test.count", idempotency_key="k")
    counter.error = None
    again = await refusal(anna, "test.count", idempotency_key="k")
    assert again.as_dict() == first.as_dict() and counter.runs == 1


async def test_a_full_disk_is_no_answer(counter: Counter, anna: Client) -> None:
    """What failed because nothing could be stored may be tried again under the same key."""
    counter.error = StoreFull()
    assert (await refusal(anna, "test.count", idempotency_key="k")).kind == "STORAGE_FULL"
    counter.error = None
    assert await anna.call("test.count", idempotency_key="k") == 2


async def test_a_cancelled_call_stays_cancelled(counter: Counter, anna: Client) -> None:
    """Its key answers that it was stopped; it does not run again behind the caller's back."""
    call = asyncio.ensure_future(anna.call("test.slow", idempotency_key="k"))
    await counter.begun.wait()
    call.cancel()
    error = await refusal(anna, "test.slow", idempotency_key="k")
    assert (error.code, error.kind, counter.runs) == (-32800, "CANCELLED", 1)


async def test_reads_ignore_the_key(counter: Counter, anna: Client) -> None:
    """What changes nothing is asked anew."""
    assert await anna.call("test.look", idempotency_key="k") == 1
    assert await anna.call("test.look", idempotency_key="k") == 2


@pytest.mark.parametrize("key", ["", "x" * 201, 7, "a\x00b", ["k"]])
async def test_a_key_is_a_short_text(anna: Client, key: Any) -> None:
    """Anything else is refused before the call runs."""
    error = await refusal(anna, "session.create", _meta={"idempotency_key": key})
    assert error.code == -32602


async def test_after_a_restart_the_first_answer_is_given(counter: Counter, tmp_path: Path) -> None:
    """Keys and answers are on disk."""
    async with run_server(tmp_path / "data") as server:
        credential = await server.credential("anna")
        assert await (await server.client("anna")).call("test.count", idempotency_key="k") == 1
    async with run_server(tmp_path / "data") as server:
        assert await (await server.connect(credential)).call("test.count", idempotency_key="k") == 1
    assert counter.runs == 1


async def test_a_call_that_a_kill_interrupted_never_runs_again(counter: Counter, tmp_path: Path) -> None:
    """A key found under way at the start: nobody knows what became of it, and that is what the caller hears."""
    async with run_server(tmp_path / "data") as server:
        credential = await server.credential("anna")
        assert await (await server.client("anna")).call("test.count", idempotency_key="k") == 1
    store = await Store.open(tmp_path / "data")
    await store.write(lambda tx: tx.run("UPDATE idempotency_keys SET result = NULL"))
    await store.close()
    async with run_server(tmp_path / "data") as server:
        client = await server.connect(credential)
        for _ in range(2):
            error = await refusal(client, "test.count", idempotency_key="k")
            assert (error.code, error.kind, error.data["retryable"]) == (-32015, "OUTCOME_UNKNOWN", False)
    assert counter.runs == 1


async def test_keys_are_forgotten_by_age_and_number(counter: Counter, tmp_path: Path) -> None:
    """Old keys go, and of too many the oldest."""
    async with run_server(tmp_path / "data", max_keys_per_user=20, idempotency_age_s=3600.0) as server:
        anna = await server.client("anna")
        for number in range(25):
            await anna.call("test.count", idempotency_key=f"k{number}")
        count = await server.services.store.read(lambda tx: tx.one("SELECT count(*) FROM idempotency_keys"))
        assert count is not None and count[0] <= 21
        assert await anna.call("test.count", idempotency_key="k24") == 25
        await server.services.store.write(
            lambda tx: tx.run("UPDATE idempotency_keys SET age_from = age_from - 3600001")
        )
        await server.services.store.write(server.services.dispatcher.answers.upkeep)
        assert await anna.call("test.count", idempotency_key="k24") == 26
