"""A power cut at any moment under a whole server: what it has acknowledged is there after the next start.

The server runs in this process on a disk (`tests.disks`) that keeps what was synced. Files of stores are synced by
Python, and each of those syncs is a moment at which power may fail. SQLite syncs by itself, where nobody can look: the
database and its log count as synced with each COMMIT that has returned, as `synchronous = FULL` promises, and cuts
inside a COMMIT, or a disk that lies about syncing, are not tried. What other programs write (git) is not looked at.
"""

import os
import random
from collections.abc import Awaitable, Callable
from contextlib import closing
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from rpcserver.app import sweep
from rpcserver.client import CallError, Client
from store.sqlite import DATABASE
from store.writer import Writer
from tests.conftest import Running, run_server
from tests.disks import Disk

KEYS = ("a", "b", "c")
# What there is: "session <name>" or "context <name>" -> its values by key; under "" the params of its row.
State = dict[str, dict[str, Any]]


class Cut:
    """What a power cut leaves in a folder, and what is acknowledged by then, or is being done."""

    def __init__(self, folder: Path, before: State, after: State) -> None:
        self.folder, self.before, self.after = folder, before, after


class Cutter:
    """Cuts the power now and then: at every sync, with some chance, and when told to.

    Args:
        most: cuts at the most; what is synced goes on being kept.
    """

    def __init__(self, folder: Path, disk: Disk, chance: random.Random, share: float, most: int) -> None:
        self._folder, self._disk, self._chance, self._share, self._most = folder, disk, chance, share, most
        self.cuts: list[Cut] = []
        self.before: State = {}
        self.after: State = {}
        self.is_on = False

    def sync(self, handle: int) -> None:
        """Sync a file or folder: in place of the real thing, which takes its time."""
        self._disk.keep(handle)
        self.maybe()

    def committed(self, data: Path) -> None:
        """Take the database over as it is after a COMMIT."""
        for name in (DATABASE, f"{DATABASE}-wal"):
            if (data / name).exists():
                self._disk.keep_file(data / name)
        self.maybe()

    def maybe(self) -> None:
        """Cut, perhaps."""
        if self.is_on and len(self.cuts) < self._most and self._chance.random() < self._share:
            self.cut()

    def cut(self) -> None:
        """Cut now."""
        folder = self._folder / f"cut {len(self.cuts)}"
        self.cuts.append(Cut(folder, self.before, self.after))
        self._disk.leave(folder, is_lucky=self._chance.random() < 0.5)


class User:
    """Does one thing after another, and knows what is there by what was acknowledged."""

    def __init__(self, client: Client, cutter: Cutter, chance: random.Random) -> None:
        self.client, self.cutter, self.chance = client, cutter, chance
        self.ids: dict[str, str] = {}
        self.state: State = {"context work": {"": {}}}
        self.count = 0

    async def act(self) -> None:
        """Do something."""
        after = deepcopy(self.state)
        change = self._change(after)
        self.cutter.before, self.cutter.after = self.state, after
        await change()
        self.state = self.cutter.before = after
        self.cutter.maybe()

    def _change(self, after: State) -> Callable[[], Awaitable[Any]]:
        self.count += 1
        names = [name for name in after if name.startswith("session")]
        what = self.chance.choices(
            ("create", "destroy", "rename", "params", "set", "delete", "empty"), (2, 1, 1, 1, 5, 4, 1)
        )[0]
        if what == "create" or not names:
            return self._create(after)
        name = self.chance.choice(names if what in ("destroy", "rename") else list(after))
        call, key = self.client.call, self.chance.choice(KEYS)
        kind, _, word = name.partition(" ")
        whose = {"session_id": self.ids[name]} if kind == "session" else {"context_name": word}
        match what:
            case "destroy":
                del after[name]
                return lambda: call("session.destroy", **whose)
            case "rename":
                new = f"session name{self.count}"
                after[new] = after.pop(name)
                self.ids[new] = self.ids[name]
                return lambda: call("session.update", name=f"name{self.count}", **whose)
            case "params":
                params = after[name][""] = {"n": str(self.count)}
                return lambda: call(f"{kind}.update", params=params, **whose)
            case "delete":
                after[name].pop(key, None)
                return lambda: call(f"{kind}.db.delete", key=key, **whose)
            case "empty":
                after[name] = {"": after[name][""]}
                return lambda: call(f"{kind}.db.destroy", **whose)
        value = after[name][key] = f"value {self.count}"
        return lambda: call(f"{kind}.db.set", key=key, value=value, **whose)

    def _create(self, after: State) -> Callable[[], Awaitable[None]]:
        name = f"name{self.count}"
        after[f"session {name}"] = {"": {}}

        async def create() -> None:
            self.ids[f"session {name}"] = await self.client.create_session(name)

        return create


async def found(server: Running, credential: str) -> State:
    """Return what a user finds, over the wire; nothing lies about that is of nobody."""
    await sweep(server.services)
    client = await server.connect(credential)
    state: State = {}
    ids = set()
    for session in await client.list_sessions():
        ids.add(session.session_id)
        record = await client.call("session.get", session_id=session.session_id)
        values = await values_of(client, "session", session_id=session.session_id)
        state[f"session {session.name}"] = {"": record["params"], **values}
    record = await client.call("context.get", context_name="work")
    state["context work"] = {"": record["params"], **await values_of(client, "context", context_name="work")}
    stores = server.services.settings.data / "stores"
    left = [path for path in stores.rglob("*") if path.name.startswith((".new-", ".gone-"))]
    of_nobody = [path for path in stores.glob("*/*/session_*") if path.name.removeprefix("session_") not in ids]
    assert not left and not of_nobody
    return state


async def values_of(client: Client, kind: str, **whose: str) -> dict[str, str]:
    """Return what a store holds."""
    keys = (await client.call(f"{kind}.db.keys", **whose))["items"]
    return {key: await client.call(f"{kind}.db.get", key=key, **whose) for key in keys}


def check(seen: State, before: State, after: State) -> None:
    """Each thing, and each value of it, is as it was before what was being done, or as it is after it."""
    assert len(seen) in (len(before), len(after))
    for name in {*seen, *before, *after}:
        states = [state[name] for state in (before, after) if name in state]
        assert states, f"{name} came back"
        if name not in seen:
            assert len(states) == 1, f"{name} is lost"
            continue
        for key in {key for state in (*states, seen[name]) for key in state}:
            assert seen[name].get(key) in [state.get(key) for state in states], (name, key)


async def try_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, steps: int, most: int) -> None:
    """Use a server, cut its power, and start others on what that left."""
    chance = random.Random(seed)
    data, original = tmp_path / "disk" / "data", Writer.__init__
    (tmp_path / "disk").mkdir()
    with closing(Disk(tmp_path / "disk", chance)) as disk:
        cutter = Cutter(tmp_path, disk, chance, 1.5 * most / (8 * steps), most)

        def writer(self: Writer, *args: Any, **options: Any) -> None:
            *others, are_files_there, kept = args

            def committed() -> bool:
                cutter.committed(data)
                return bool(are_files_there())

            original(self, *others, committed, kept, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", cutter.sync)
            patch.setattr(Writer, "__init__", writer)
            async with run_server(data) as server:
                credential = await server.credential("anna")
                user = User(await server.client("anna"), cutter, chance)
                await user.client.call("context.get", context_name="work")
                cutter.before = cutter.after = user.state
                cutter.is_on = True
                for done in range(steps):
                    await user.act()
                    # A slow machine syncs more at once, so that chance has fewer moments to choose from.
                    if len(cutter.cuts) < min(most // 3, 2 * done * most // (3 * steps)):
                        cutter.cut()
                cutter.cut()
                cutter.is_on = False
    for cut in cutter.cuts:
        async with run_server(cut.folder / "data") as server:
            check(await found(server, credential), cut.before, cut.after)
    assert len(cutter.cuts) > most // 3


@pytest.mark.parametrize("seed", range(2))
async def test_what_was_acknowledged_survives_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Sessions, contexts and values, also their ends: after a few cuts each is what was acknowledged last."""
    await try_cuts(tmp_path, monkeypatch, seed, steps=25, most=3)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(100, 106))
async def test_what_was_acknowledged_survives_many_power_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The same at many moments."""
    await try_cuts(tmp_path, monkeypatch, seed, steps=150, most=30)


@pytest.mark.parametrize("forgotten", ["folders", "values", "database"])
async def test_the_test_finds_what_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    """A server that does not sync folders or values, or acknowledges before a COMMIT is on the disk, does not pass."""
    keep, keep_file = Disk.keep, Disk.keep_file
    names: list[str] = []

    def forgetful(disk: Disk, handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        is_kept = "/stores/" not in path or os.path.isdir(path) != (forgotten == "folders")
        if is_kept or forgotten == "database":
            keep(disk, handle)

    def late(disk: Disk, path: Path) -> None:
        names.append(path.name)
        if forgotten != "database" or len(names) < 20:
            keep_file(disk, path)

    monkeypatch.setattr(Disk, "keep", forgetful)
    monkeypatch.setattr(Disk, "keep_file", late)
    with pytest.raises((AssertionError, ValueError, CallError)):
        await try_cuts(tmp_path, monkeypatch, 7, steps=25, most=6)
