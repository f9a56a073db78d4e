"""A page of a set, and the next one, while the set changes."""

import sqlite3
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import listing, members, sets, tokens, users
from core.calls import Scene
from core.listing import Order, Position
from core.users import User
from store import Clock, Store
from store.migrate import apply, schema_path
from store.tx import SqliteTx
from tests.builders import as_user, make_user

ORDERS: list[Order] = ["name", "-name", "added", "-added"]


def add(scene: Scene, set_id: str, name: str, type: str = "thing", **options: Any) -> str:
    """Put a new token into a set."""
    token_id = tokens.create(scene, type, name, **options)
    sets.add_tokens(scene, set_id, [token_id])
    return token_id


NAMES = st.sampled_from(["a", "A", "b", "ä", "A\u0308", "ß", "ss", "z", "10", "9", "é", "_"]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5
).filter(str.strip)
CHANGES = st.lists(st.tuples(st.sampled_from(["add", "remove"]), NAMES, st.integers(0, 99)), max_size=4)


@pytest.mark.parametrize("order", ORDERS)
@given(names=st.lists(NAMES, max_size=25), limit=st.integers(1, 7), changes=st.lists(CHANGES, max_size=8))
@settings(max_examples=25, deadline=None)
def test_nothing_stable_is_skipped_or_repeated(order: Order, names: list[str], limit: int, changes: list[Any]) -> None:
    """What stands in the set from the first page to the last is told exactly once, whatever comes and goes."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    apply(connection, schema_path().read_text("utf-8"), 1)
    tx = SqliteTx(connection, Clock())
    anna = users.create(Scene(tx, "operator"), "anna")
    scene = Scene(tx, anna.id)
    place = sets.create(scene, "place")
    stable = {add(scene, place, name) for name in names}
    seen, later, after, turns = [], list(changes), None, 0
    while True:
        page = listing.read(scene, place, limit=limit, after=after, order=order)
        assert len(page.entries) <= limit
        seen += [entry.id for entry in page.entries]
        for change, name, number in later.pop(0) if later else []:
            if change == "add":
                add(scene, place, name)
            elif stable:
                gone = sorted(stable)[number % len(stable)]
                stable.remove(gone)
                members.take(tx, place, gone)
        after, turns = page.next, turns + 1
        if after is None or turns > 100:
            break
    connection.close()
    assert after is None
    assert len(seen) == len(set(seen))
    assert stable <= set(seen)


async def pages(store: Store, user: User, place: str, limit: int, **query: Any) -> list[list[str]]:
    """Return the names on each page."""
    found: list[list[str]] = []
    after: Position | None = None
    while True:
        read = partial(listing.read.fn, set_id=place, limit=limit, after=after, **query)
        page = await as_user(store, user, read)
        found.append([entry.name for entry in page.entries])
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("name", [["alpha", "Beta"], ["gamma"]]),
        ("-name", [["gamma", "Beta"], ["alpha"]]),
        ("added", [["gamma", "alpha"], ["Beta"]]),
        ("-added", [["Beta", "alpha"], ["gamma"]]),
    ],
)
async def test_orders(store: Store, order: Order, expected: list[list[str]]) -> None:
    """By name without regard to case, or by arrival, and both backwards."""
    anna = await make_user(store, "anna")

    def build(scene: Scene) -> str:
        place = sets.create(scene, "place")
        for name in ("gamma", "alpha", "Beta"):
            add(scene, place, name)
        return place

    place = await as_user(store, anna, build)
    assert await pages(store, anna, place, 2, order=order) == expected


@pytest.fixture
async def mixed(store: Store) -> tuple[User, User, str]:
    """Anna's public set with something of every kind, and bob."""
    anna, bob = await make_user(store, "anna"), await make_user(store, "bob")

    def build(scene: Scene) -> str:
        place = sets.create(scene, "place", is_public=True)
        sets.create(scene, "child", place, is_public=True)
        sets.create(scene, "hidden child", place)
        sets.link(scene, place, sets.create(scene, "a garden", is_public=True))
        add(scene, place, "Report.txt")
        add(scene, place, "report[1].txt")
        add(scene, place, "secret", is_public=False)
        add(scene, place, "machinery", is_human=False)
        add(scene, place, "search", "command")
        return place

    place = await as_user(store, anna, build)
    await store.write(lambda tx: members.put(tx, place, bob.token_id, "visitor"))
    return anna, bob, place


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"kind": "child"}, ["child", "hidden child"]),
        ({"kind": "link"}, ["a garden"]),
        ({"kind": "user"}, ["bob"]),
        ({"kind": "command"}, ["search"]),
        ({"kind": "token"}, ["machinery", "Report.txt", "report[1].txt", "secret"]),
        ({"filter": "REPORT"}, ["Report.txt", "report[1].txt"]),
        ({"filter": "rep*txt"}, ["Report.txt", "report[1].txt"]),
        ({"filter": "report?1?.txt"}, ["report[1].txt"]),
        ({"filter": "[!c-z]*"}, ["a garden", "bob"]),
        ({"filter": "nothing like it"}, []),
        ({"filter": "e", "kind": "command"}, ["search"]),
        ({"kind": "token", "is_human": True}, ["Report.txt", "report[1].txt", "secret"]),
    ],
)
async def test_filters(store: Store, mixed: tuple[User, User, str], query: dict[str, Any], names: list[str]) -> None:
    """By kind, by name with or without wildcards, and for people; combined, all of them hold."""
    anna, _, place = mixed
    assert [name for page in await pages(store, anna, place, 2, **query) for name in page] == names


async def test_what_one_cannot_read_is_left_out(store: Store, mixed: tuple[User, User, str]) -> None:
    """A private token of another in a public set is not listed, and does not make a page shorter."""
    _, bob, place = mixed
    found = await pages(store, bob, place, 3)
    assert [len(page) for page in found] == [3, 3, 1]
    assert not {"secret", "hidden child"} & {name for page in found for name in page}
