"""What a user may keep: bounded, counted where it changes, shown by server.info, refused in words that help."""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import CallError, Client
from rpcserver.settings import Settings
from tests.conftest import Running, run_server


async def usage(client: Client) -> dict[str, int]:
    """Return what the user keeps, by setting."""
    found = (await client.call("server.info"))["usage"]
    return {name: one["used"] for name, one in found.items()}


async def refused(call: Awaitable[Any]) -> dict[str, Any]:
    """Return the data of a refusal that says which limit was met, how much is used, and what makes room."""
    with pytest.raises(CallError) as caught:
        await call
    assert caught.value.kind == "QUOTA_EXCEEDED", caught.value
    assert caught.value.data["limit"] in str(caught.value) and caught.value.data["used"] <= caught.value.data["most"]
    return caught.value.data


async def test_tokens_are_counted_as_they_come_and_go(server: Running) -> None:
    """Made, written, given away, deleted, with and without a set: the counter is what a count of the rows says."""
    anna, bob = await server.client("anna"), await server.client("bob")
    bob_id = (await bob.call("auth.whoami"))["user_id"]
    home = (await anna.ls()).current_set.id
    shelf = await anna.call("core.set.create", name="shelf", parent_id=home)
    notes = [
        await anna.call("core.token.create", type="note", name=f"note {number}", attributes={"text": "x" * number})
        for number in range(5)
    ]
    await anna.call("core.token.edit_attribute", token_id=notes[0], attribute="text", value="longer than before")
    await anna.call("core.token.edit_attribute", token_id=notes[0], attribute="text", value="here", set_id=shelf)
    await anna.call("core.token.give", token_id=notes[1], user_id=bob_id)
    await anna.call("core.token.delete", token_id=notes[2])
    await anna.call("core.set.delete", set_id=shelf)
    await anna.create_session("another")
    await anna.call("core.session.remember", data_set_id=(await anna.get_session()).session_data, name="a", value=1)
    for client in (anna, bob):
        user_id = (await client.call("auth.whoami"))["user_id"]

        def rows(tx: Any, user_id: str = user_id) -> Any:
            return tx.one(
                "SELECT count(*), sum(length(name) + length(attributes) + (SELECT coalesce(sum(length(value)), 0)"
                " FROM live_values WHERE token_id = tokens.id)) FROM tokens WHERE owner_id = ?",
                user_id,
            )

        counted = await server.services.store.read(rows)
        told = await usage(client)
        assert (told["max_tokens_per_user"], told["max_token_bytes_per_user"]) == counted


async def test_no_more_tokens_than_may_be_are_made(tmp_path: Path) -> None:
    """Tokens, sets, larger values and gifts of others: each is refused at the limit, and less is always possible."""
    async with run_server(tmp_path / "data", max_tokens_per_user=12, max_token_bytes_per_user=4000) as server:
        anna, bob = await server.client("anna"), await server.client("bob")
        left = 12 - (await usage(anna))["max_tokens_per_user"]
        made = [await anna.call("core.token.create", type="note", name="n") for _ in range(left)]
        assert (await refused(anna.call("core.token.create", type="note", name="n")))["limit"] == "max_tokens_per_user"
        await refused(anna.call("core.set.create", name="s"))
        extra = await bob.call("core.token.create", type="note", name="gift")
        anna_id = (await anna.call("auth.whoami"))["user_id"]
        await refused(bob.call("core.token.give", token_id=extra, user_id=anna_id))
        large = {"token_id": made[0], "attribute": "text", "value": "x" * 5000}
        assert (await refused(anna.call("core.token.edit_attribute", **large)))["limit"] == "max_token_bytes_per_user"
        await anna.call("core.token.edit_attribute", token_id=made[0], attribute="text", value="short")
        await anna.call("core.token.delete", token_id=made[1])
        await anna.call("core.token.create", type="note", name="n")


async def test_stores_are_bounded_by_keys_and_bytes_together(tmp_path: Path) -> None:
    """Over all stores of a user; overwriting counts the difference, deleting and destroying make room, also later."""
    bounds = {"max_store_keys_per_user": 4, "max_store_bytes_per_user": 3000}
    async with run_server(tmp_path / "data", **bounds) as server:
        anna, bob = await server.client("anna"), await server.client("bob")

        async def put(key: str, size: int = 10, method: str = "session.db.set") -> Any:
            return await anna.call(method, key=key, value="v" * size)

        for key in ("a", "b"):
            await put(key)
        for key in ("c", "d"):
            await put(key, method="context.db.set")
        assert (await refused(put("e")))["limit"] == "max_store_keys_per_user"
        await put("a", 1500)
        assert (await refused(put("b", 1500)))["limit"] == "max_store_bytes_per_user"
        await bob.call("session.db.set", key="a", value="v" * 1500)
        told = await usage(anna)
        assert told["max_store_keys_per_user"] == 4 and 1500 < told["max_store_bytes_per_user"] < 2000
        await anna.call("session.db.delete", key="a")
        await put("e", 1500)
        await anna.call("session.db.destroy")
        assert (await usage(anna))["max_store_keys_per_user"] == 2
    async with run_server(tmp_path / "data", **bounds) as server:
        anna = await server.connect(str(await _credential(server)))
        assert (await usage(anna))["max_store_keys_per_user"] == 2, "counted anew after a restart"


async def _credential(server: Running) -> str:
    issued: str = (await server.app.operate("operator.credential_create", user="anna", label="again"))["credential"]
    return issued


async def test_contexts_are_bounded(tmp_path: Path) -> None:
    """By every way one is made; those there are can be used."""
    async with run_server(tmp_path / "data", max_contexts_per_user=2) as server:
        anna = await server.client("anna")
        for name in ("one", "two"):
            await anna.call("context.get", context_name=name)
        await refused(anna.call("context.get", context_name="three"))
        await refused(anna.call("context.update", context_name="three", interactive=False))
        await refused(anna.create_session("mine", context_name="three"))
        assert await anna.create_session("mine", context_name="two")


async def test_the_oldest_jobs_are_forgotten_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more than may be kept the newest stay; nothing is refused."""
    monkeypatch.setattr("jobs.runner.BOUNDED_EVERY_S", 0.01)
    monkeypatch.setattr("jobs.stats.MANY", 10)
    async with run_server(tmp_path / "data", max_jobs_kept_per_user=20) as server:
        anna = await server.client("anna")
        home = (await anna.ls()).current_set.id
        ids = [
            (await anna.call("job.run", function="bookmarks.add", data={"home_set_id": home, "set_id": home}))["job_id"]
            for _ in range(40)
        ]

        async def left() -> list[str]:
            return [job.job_id for job in await anna.list_jobs(function="bookmarks.add")]

        while len(found := await left()) > 30:  # twenty, and fewer than are waited for
            pass
        assert set(ids[-10:]) <= set(found) and not set(ids[:10]) & set(found)
        assert (await usage(anna))["max_jobs_kept_per_user"] <= 40


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("max_tokens_per_user", 1_000_000),
        ("max_store_keys_per_user", 50_000),
        ("max_store_bytes_per_user", 1 << 30),
        ("max_jobs_kept_per_user", 100_000),
        ("max_playbook_bytes_per_user", 256 << 20),
    ],
)
def test_the_defaults_are_generous(name: str, least: int) -> None:
    """Nobody at work meets them."""
    assert getattr(Settings(), name) >= least


async def test_server_info_shows_every_limit_of_what_is_kept(server: Running, anna: Client) -> None:
    """Each setting that bounds what a user keeps stands there with what is used."""
    found = (await anna.call("server.info"))["usage"]
    bounded: Callable[[str], bool] = lambda name: name.endswith("_per_user") and name not in NOT_KEPT  # noqa: E731
    assert set(found) == {name for name in Settings.model_fields if bounded(name)}


# What comes and goes, or waits, rather than being kept.
NOT_KEPT = {
    "max_connections_per_user",
    "calls_per_s_per_user",
    "job_slots_per_user",
    "max_waiting_jobs_per_user",
    "max_waiting_in_pool_per_user",
    "script_waiting_per_user",
    "remote_calls_per_user",
    "max_keys_per_user",
    "max_unfinished_bytes_per_user",
    "max_outbox_bytes_per_user",
}


async def test_what_is_taken_away_meanwhile_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that goes while it is counted, by a sweep or another call, is no error of the disk."""
    async with run_server(tmp_path / "data") as server:
        anna = await server.client("anna")
        await anna.call("session.db.set", key="a", value="v")
    listed = Path.iterdir

    def vanishing(path: Path) -> Any:
        found = list(listed(path))
        for one in found:
            if one.is_dir() and (one / ".meta").exists():
                shutil.rmtree(one)
        return iter(found)

    async with run_server(tmp_path / "data") as server:
        anna = await server.connect(str(await _credential(server)))
        monkeypatch.setattr(Path, "iterdir", vanishing)
        assert (await usage(anna))["max_store_keys_per_user"] == 0
        monkeypatch.undo()


async def test_counting_makes_nothing(tmp_path: Path) -> None:
    """Who asks what they keep, or destroys a store that is not there, has no folder made for it."""
    async with run_server(tmp_path / "data") as server:
        anna = await server.client("anna")
        assert (await usage(anna))["max_store_keys_per_user"] == 0
        await anna.call("session.db.destroy")
        assert not _folders(tmp_path / "data")


def _folders(data: Path) -> list[Path]:
    return list(data.glob("stores/u_*"))
