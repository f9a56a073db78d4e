"""Key-value stores in files."""

import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from heroscript.errors import BadKey, BadSecret, MissingKey, StoreError
from heroscript.kvs import Collection


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(tmp_path / "stores", is_durable=False)


def test_keeps_values(collection: Collection) -> None:
    """Set, get, exists, delete, by any spelling of the key."""
    store = collection.db_create("one")
    number = store.set("My-Key", "välue")
    assert store.get("my_key") == "välue" and store.get(id=number) == "välue"
    assert store.set("my key", b"\x00\xff") == number
    assert store.get_bytes("my_key") == b"\x00\xff"
    assert store.exists("my:key") and store.exists(id=number)
    assert store.delete("my_key") and not store.delete("my_key")
    assert not store.exists("my_key") and not store.exists(id=number)
    for key in ({"key": "my_key"}, {"id": number}):
        with pytest.raises(MissingKey):
            store.get(**key)


def test_counts_ids_over_the_collection(collection: Collection) -> None:
    """Ids are shared by the stores, and a deleted one is not given again."""
    one, two = collection.db_create("one"), collection.db_create("two")
    assert (one.set("a", "1"), two.set("a", "2"), one.set(None, "3")) == (1, 2, 3)
    assert one.get(id=3) == "3" and list(one.keys()) == ["a"] and one.ids() == [1, 3]
    assert one.set(None, "4", id=3) == 3 and one.get(id=3) == "4"
    assert not one.exists(id=2)
    one.delete(id=3)
    assert one.set("b", "5") == 4
    with pytest.raises(MissingKey):
        one.set(None, "x", id=9)


def test_outlives_the_process(tmp_path: Path) -> None:
    """What is set is there for whoever opens the folder next, one readable file a key."""
    Collection(tmp_path).db_create("one").set("greeting", "hello\n")
    assert Collection(tmp_path).db_get("one").get("greeting") == "hello\n"
    assert (tmp_path / "one" / "greeting").read_text() == '{"id": 1}\nhello\n'
    assert not list(tmp_path.glob("**/.new-*"))


@pytest.mark.parametrize(
    "key",
    ["../../etc/passwd", "/etc/passwd", "..", ".meta", "a/b", "a\0b", "日本", "%2e", "=1", "a\nb", "~", "con:", "."],
)
def test_no_name_leaves_its_folder(collection: Collection, tmp_path: Path, key: str) -> None:
    """Any text can be a key, or is refused; it never becomes a path."""
    store = collection.db_create("one")
    store.set("other", "x")
    before = {path for path in tmp_path.rglob("*") if path.parent.name != "one" and path.parent.name != ".ids"}
    try:
        store.set(key, "v")
    except BadKey:
        return
    assert store.get(key) == "v" and len(list(store.keys())) == 2 and store.get("other") == "x"
    assert {path for path in tmp_path.rglob("*") if path.parent.name not in ("one", ".ids")} == before
    assert (tmp_path / "stores" / "one" / ".meta").read_bytes().startswith(b"{")


@pytest.mark.parametrize("key", ["", "  ", "x" * 1001, "\ud800"])
def test_refuses_what_cannot_be_a_name(collection: Collection, key: str) -> None:
    """An empty or overlong name is an error."""
    with pytest.raises(BadKey):
        collection.db_create("one").set(key, "v")


LONG = ["x" * 300, "日" * 300, "x" * 299 + "y", "a - b", "\n.b", "\u212a x", "é", "e\u0301 x", "ς", "µ.b"]


def test_what_is_listed_can_be_read(collection: Collection) -> None:
    """Long keys and odd spellings too: a key as `keys` gives it finds its value, by prefix and when sealed too."""
    for store in (collection.db_create("plain"), collection.db_create("sealed", secret="open sesame")):
        for number, key in enumerate(LONG):
            store.set(key, f"v{number}")
        listed = list(store.keys())
        assert sorted(store.get(key) for key in listed) == sorted(f"v{number}" for number in range(len(LONG)))
        assert list(store.keys("xxx")) == ["x" * 300, "x" * 299 + "y"]
        number = store.set("x" * 300, "again")
        assert store.set(None, "by id", id=number) == number and store.get("x" * 300) == "by id"
        assert store.delete("日" * 300) and "日" * 300 not in list(store.keys())
    with pytest.raises(BadKey):
        collection.db_create("x" * 300)


@pytest.mark.parametrize("twins", [("é", "e\u0301"), ("Ab", "aB"), ("a-b", "A_b")])
def test_spellings_of_one_key(collection: Collection, twins: tuple[str, str]) -> None:
    """Upper and lower case and the two ways to write an accent are one key, as they are on some disks."""
    store = collection.db_create("one")
    assert store.set(twins[0], "first") == store.set(twins[1], "second")
    assert store.get(twins[0]) == "second"


@pytest.mark.parametrize("twins", [("σ", "ς"), ("s", "ſ"), ("μ", "µ"), ("ss", "ß")])
def test_keys_that_a_disk_takes_for_one(collection: Collection, tmp_path: Path, twins: tuple[str, str]) -> None:
    """Two keys never have file names that differ in case alone, whatever Unicode calls case."""
    store = collection.db_create("one")
    assert store.set(twins[0], "first") != store.set(twins[1], "second")
    names = {path.name.casefold() for path in (tmp_path / "stores" / "one").iterdir()}
    assert len(names) == 3 and store.get(twins[0]) == "first"


def test_refuses_what_makes_no_sense(collection: Collection) -> None:
    """An empty value, and a key together with an id."""
    store = collection.db_create("one")
    for refused in (
        lambda: store.set("a", ""),
        lambda: store.set("a", "v", id=1),
        store.get,
        lambda: store.set("a", "\ud800"),
    ):
        with pytest.raises(StoreError):
            refused()
    with pytest.raises(StoreError):
        collection.db_create("one")
    with pytest.raises(MissingKey):
        collection.db_get("two")


def test_says_which_file_is_damaged(collection: Collection, tmp_path: Path) -> None:
    """A file somebody put there by hand is an error, not a crash."""
    store = collection.db_create("one")
    (tmp_path / "stores" / "one" / "by_hand").write_text("no id\n")
    with pytest.raises(StoreError, match="by_hand"):
        store.set("by hand", "v")


def test_lists_by_prefix(collection: Collection) -> None:
    """Sorted, in the normalised spelling."""
    store = collection.db_create("one")
    for key in ("app_two", "App One", "other", "a.b.c", "日本"):
        store.set(key, "v")
    assert list(store.keys()) == ["a_b.c", "app_one", "app_two", "other", "日本"]
    assert list(store.keys("app-")) == ["app_one", "app_two"]
    assert list(store.keys("a.b")) == ["a_b.c"]
    assert list(store.keys("zzz")) == []


@pytest.mark.parametrize("keys", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_lists_many_keys_in_bounded_memory(collection: Collection, tmp_path: Path, keys: int) -> None:
    """The memory of a listing does not grow with the number of keys beyond its page."""
    store = collection.db_create("one")
    folder = tmp_path / "stores" / "one"
    for base in ("first", "second"):
        (folder / base).write_text('{"id": 1}\nv')
    for number in range(keys):  # two bases: a file system allows 65,000 links to one file
        os.link(folder / ("first" if number < keys // 2 else "second"), folder / f"key_{number:06}")
    tracemalloc.start()
    count, last = 0, ""
    for key in store.keys("key_0"):
        assert key > last
        count, last = count + 1, key
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == keys and peak < 2_000_000 + 60 * keys


def test_stores_are_isolated(collection: Collection) -> None:
    """A key of one store is no key of another; removing one store leaves the others."""
    one, two = collection.db_get_create("session_a"), collection.db_get_create("session_b")
    one.set("k", "1")
    assert not two.exists("k")
    two.set("k", "2")
    one.destroy()
    assert collection.list() == ("session_b",) and two.get("k") == "2"
    assert collection.delete("session_b") and not collection.delete("session_b")
    assert collection.list("session") == ()


def test_seals_values(collection: Collection, tmp_path: Path) -> None:
    """Nothing of a value is readable on the disk; another secret, another place or a changed byte is an error."""
    store = collection.db_create("vault", secret="open sesame")
    store.set("a", "top secret")
    store.set("b", "top secret")
    folder = tmp_path / "stores" / "vault"
    assert b"secret" not in (folder / "a").read_bytes()
    assert (folder / "a").read_bytes()[10:] != (folder / "b").read_bytes()[10:]
    assert collection.db_get("vault", secret="open sesame").get("a") == "top secret"
    for secret in (None, "wrong secret", "abc"):
        with pytest.raises(BadSecret):
            collection.db_get("vault", secret=secret)
    (folder / "b").write_bytes((folder / "a").read_bytes())
    with pytest.raises(BadSecret):
        store.get("b")
    sealed = (folder / "a").read_bytes()
    (folder / "a").write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    with pytest.raises(BadSecret):
        store.get("a")


@pytest.mark.parametrize("secret", ["", "abc"])
def test_refuses_a_short_secret(collection: Collection, secret: str) -> None:
    """The empty secret above all."""
    with pytest.raises(BadSecret):
        collection.db_create("vault", secret=secret)
    assert not collection.exists("vault")


def test_counts_right_with_many_writers(tmp_path: Path) -> None:
    """Two collections on one folder, as two processes have them, never give one id twice."""
    given: list[int] = []

    def write(name: str) -> None:
        store = Collection(tmp_path, is_durable=False).db_get_create(name)
        given.extend(store.set(f"{name} {number}", "v") for number in range(50))

    threads = [threading.Thread(target=write, args=(f"store{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == list(range(1, 201))


KILLED = """
import os, sys
from pathlib import Path
from heroscript.kvs import Collection

store = Collection(Path(sys.argv[1])).db_get("one")
os.replace = lambda *_: os.kill(os.getpid(), 9)
store.set("k", "new" * 1000)
"""


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_value(tmp_path: Path) -> None:
    """A process killed before its file is in place leaves what was there, whole, and nothing in the way of the next."""
    store = Collection(tmp_path).db_create("one")
    store.set("k", "old" * 1000)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert any(path.name.startswith(".new-") for path in (tmp_path / "one").iterdir())
    assert store.get("k") == "old" * 1000
    assert list(store.keys()) == ["k"] and store.set("k", "next") == 1 and store.get("k") == "next"


def test_keys_go_on_behind_a_key(collection: Collection) -> None:
    """`after` gives the keys behind one only, whether it is there or not."""
    store = collection.db_create("one")
    for key in ("a", "b", "c", "d"):
        store.set(key, "v")
    assert list(store.keys(after="b")) == ["c", "d"]
    assert list(store.keys("", "bb")) == ["c", "d"]
