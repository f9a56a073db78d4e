"""A power cut at any moment: what a key-value store has acknowledged is on the disk, removals too.

The disk (`tests.disks`) is looked at after every sync: no other moment leaves anything else behind.
"""

import os
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from heroscript.errors import MissingKey
from heroscript.kvs import Collection, Store
from tests.disks import Disk

Values = dict[str, dict[str, str]]  # store -> key -> value
KEYS = ("a", "b", "c_d", "x" * 300)
STORES = ("one", "two", "three")


class World:
    """Stores, and what they hold by all that was acknowledged."""

    def __init__(self, root: Path) -> None:
        self.stores = Collection(root)
        self.values: Values = {}

    def ways(self, chance: random.Random) -> tuple[Callable[[], object], Values]:
        """Return something to do, and what is there afterwards."""
        name, key = chance.choice(STORES), chance.choice(KEYS)
        after = {store: dict(held) for store, held in self.values.items()}
        if name not in after:
            after[name] = {}
            return lambda: self.stores.db_create(name), after
        store = self.stores.db_get(name)
        match chance.choices(("set", "delete", "destroy", "empty"), (6, 4, 1, 1))[0]:
            case "set":
                value = after[name][key] = str(chance.random())
                return lambda: store.set(key, value), after
            case "delete":
                after[name].pop(key, None)
                return lambda: store.delete(key), after
            case "destroy":
                del after[name]
                return lambda: self.stores.delete(name), after
        after[name] = {}
        return store.empty, after


def found(root: Path) -> Values:
    """Return what a folder holds for whoever opens it next; no id leads to another's value."""
    stores = Collection(root, is_durable=False)
    stores.sweep()
    assert not [path for path in root.rglob("*") if path.name.startswith((".new-", ".gone-"))]
    values: Values = {}
    for name in stores.list():
        store = stores.db_get(name)
        values[name] = {key: store.get(key) for key in store.keys()}
        _check_ids(root, store)
    return values


def _check_ids(root: Path, store: Store) -> None:
    for number in (int(name) for name in os.listdir(root / ".ids") if name.isdigit()):
        try:
            assert store.set(None, store.get(id=number), id=number) == number
        except MissingKey:
            continue


def is_between(seen: Values, before: Values, after: Values) -> bool:
    """Tell whether each store, and each key, is as it was before or as it is after."""
    for name in {*seen, *before, *after}:
        if (name in seen) not in (name in before, name in after):
            return False
        for key in seen.get(name, {}).keys() | before.get(name, {}).keys() | after.get(name, {}).keys():
            if seen.get(name, {}).get(key) not in (before.get(name, {}).get(key), after.get(name, {}).get(key)):
                return False
    return True


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30))])
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """After each call all of it is there; in the middle of one, each value is the old one or the new one."""
    chance = random.Random(seed)
    root, cuts = tmp_path / "disk" / "stores", iter(range(10**6))
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk", chance)
    before: Values = {}
    after: Values = {}

    def look() -> None:
        for is_lucky in (False, True):
            left = tmp_path / f"cut {next(cuts)}"
            disk.leave(left, is_lucky=is_lucky)
            if (left / "stores").exists():
                assert is_between(found(left / "stores"), before, after)
            else:
                assert not before

    def sync(handle: int) -> None:
        disk.keep(handle)
        look()

    monkeypatch.setattr(os, "fsync", sync)
    with closing(disk):
        world = World(root)
        for _ in range(40):
            change, after = world.ways(chance)
            change()
            world.values = before = after
            look()
    assert next(cuts) > 200


@pytest.mark.parametrize("forgotten", ["folder", "file"])
def test_the_test_finds_what_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """A store that forgets to sync its folders, or its files, does not pass."""
    keep = Disk.keep

    def forgetful(disk: Disk, handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}") != (forgotten == "folder"):
            keep(disk, handle)

    monkeypatch.setattr(Disk, "keep", forgetful)
    with pytest.raises((AssertionError, ValueError)):
        test_what_was_acknowledged_survives_a_power_cut(tmp_path, monkeypatch, 0)
