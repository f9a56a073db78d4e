"""Pages and cursors over the wire."""

import base64
from pathlib import Path
from typing import Any

import pytest

from core import sets, tokens
from core.calls import Scene
from rpcserver.client import CallError, Client
from rpcserver.errors import InvalidCursor
from rpcserver.rpc.pagination import Cursors
from tests.conftest import Running


async def fill(server: Running, client: Client, count: int) -> str:
    """Make a set of the client's user with so many tokens, and go there."""
    user_id = (await client.call("auth.whoami"))["user_id"]

    def build(tx: Any) -> str:
        scene = Scene(tx, user_id)
        place = sets.create(scene, "place", is_public=True)
        sets.add_tokens(scene, place, [tokens.create(scene, "thing", f"thing {n:04}") for n in range(count)])
        return place

    place = await server.services.store.write(build)
    await client.cd(set_id=place)
    return place


async def test_a_thousand_tokens_page_by_page(server: Running, anna: Client) -> None:
    """Each page names the call for the next one; together they tell every token once."""
    await fill(server, anna, 1000)
    names, call = [], {"method": "session.ls", "params": {"limit": 200, "kind": "token"}}
    while call is not None:
        contents = (await anna.call(call["method"], **call["params"]))["contents"]
        names += [token["name"] for token in contents["tokens"]]
        call = contents["next"]
    assert names == [f"thing {n:04}" for n in range(1000)]


@pytest.mark.parametrize("limit", [0, 201, -1, "50", 1.5, True])
async def test_a_page_has_one_to_two_hundred(anna: Client, limit: Any) -> None:
    """Any other limit is refused before anything is read."""
    for method in ("session.ls", "sessions.list", "jobs.list"):
        with pytest.raises(CallError) as caught:
            await anna.call(method, limit=limit)
        assert caught.value.kind == "INVALID_PARAMS"


async def test_a_cursor_belongs_to_its_list(server: Running, anna: Client, bob: Client) -> None:
    """Tampered, cut, of another query, another session, another place or another user: refused."""
    place = await fill(server, anna, 10)
    await bob.cd(set_id=place)
    cursor = (await anna.ls(limit=3)).contents.next_cursor  # type: ignore[union-attr]
    assert cursor is not None
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[-3] ^= 1
    other = await anna.create_session(set_id=place)
    for client, params in (
        (anna, {"cursor": base64.urlsafe_b64encode(raw).decode().rstrip("=")}),
        (anna, {"cursor": cursor[:-4]}),
        (anna, {"cursor": "é"}),
        (anna, {"cursor": ""}),
        (anna, {"cursor": "A" * 16}),
        (anna, {"cursor": cursor, "order": "-name"}),
        (anna, {"cursor": cursor, "filter": "thing"}),
        (anna, {"cursor": cursor, "kind": "token"}),
        (anna, {"cursor": cursor, "session_id": other}),
        (bob, {"cursor": cursor}),
    ):
        with pytest.raises(CallError) as caught:
            await client.call("session.ls", **params)
        assert caught.value.kind == "INVALID_CURSOR", params
    assert (await anna.ls(limit=5, cursor=cursor)).contents.tokens[0].name == "thing 0001"  # type: ignore[union-attr]
    await anna.cd(to="home")
    with pytest.raises(CallError):
        await anna.ls(cursor=cursor)


async def test_lists_have_pages_too(anna: Client) -> None:
    """sessions.list and jobs.list go the same way."""
    made = [await anna.create_session() for _ in range(7)]
    for method, key in (("sessions.list", "session_id"), ("jobs.list", "job_id")):
        found, cursor = [], None
        while True:
            page = await anna.call(method, limit=3, **({"cursor": cursor} if cursor else {}))
            found += [item[key] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(found) == len(set(found)) == 7
        assert method == "jobs.list" or found == made


async def test_the_lists_of_navigation_have_pages(server: Running, anna: Client, shelf: str) -> None:
    """Children and links come fifty at a time, and a position that is none of ours is refused."""
    user = await anna.call("auth.whoami")
    await server.services.store.write(
        lambda tx: [sets.create(Scene(tx, user["user_id"]), f"child {n:03}", shelf, is_public=True) for n in range(60)]
    )
    await anna.cd(set_id=shelf)
    first = (await anna.action("navigation.children")).response["navigation"]
    assert len(first["sets"]) == 50
    rest = (await anna.call(first["next"]["method"], **first["next"]["params"]))["response"]["navigation"]
    assert [one["name"] for one in rest["sets"]] == [f"child {n:03}" for n in range(50, 60)]
    assert rest["next"] is None
    for after in ([1], "abc", [{}, []], [None, "x"], ["a", "b", "c"]):
        with pytest.raises(CallError) as caught:
            await anna.action("navigation.children", args={"after": after})
        assert caught.value.kind == "BAD_JOB_DATA"


def test_a_cursor_of_another_server_is_refused(tmp_path: Path) -> None:
    """The key is the data folder's own."""
    cursor = Cursors(b"a" * 32).encode(["x", "t_1"], "list")
    assert Cursors(b"a" * 32).decode(cursor, "list") == ("x", "t_1")
    with pytest.raises(InvalidCursor):
        Cursors(b"b" * 32).decode(cursor, "list")
