"""A data folder that is put back to what it was: no client goes on as if it had missed nothing.

Whoever puts it back leaves no trace in it: a copy of the folder or of the database alone, over the file that was there
or in its place, a snapshot of the disk. What gives it away is the client's position.
"""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from store import DATABASE
from tests.conftest import Running, run_server
from tests.protocol.test_events import announce

Position = tuple[str, int]
PutBack = Callable[[Path, Path], None]


def whole_folder(copy: Path, data: Path) -> None:
    """Put the copied folder in the place of the one there is."""
    shutil.rmtree(data)
    shutil.copytree(copy, data)


def file_by_file(copy: Path, data: Path) -> None:
    """Copy every file over the one there is, which stays the same file to the disk."""
    shutil.copytree(copy, data, dirs_exist_ok=True)


def database_alone(copy: Path, data: Path) -> None:
    """Put the database back and nothing else."""
    (data / DATABASE).unlink()
    shutil.copy2(copy / DATABASE, data / DATABASE)


def lost_end(copy: Path, data: Path) -> None:
    """Lose the newest events, as a disk that did not do what it said loses them."""
    with closing(sqlite3.connect(copy / DATABASE)) as before, closing(sqlite3.connect(data / DATABASE)) as database:
        (newest,) = before.execute("SELECT max(seq) FROM events").fetchone()
        database.execute("DELETE FROM events WHERE seq > ?", (newest,))
        database.commit()


async def heard(server: Running, position: Position) -> list[int] | None:
    """Come back with a position, and return what was missed, or None if that is not known."""
    anna = await server.client("anna")
    subscription = await anna.subscribe("test.*", since=position)
    if not subscription.recovered:
        return None
    count = server.services.events.last_seq - position[1]
    return [(await subscription.next()).data["n"] for _ in range(count)]


@pytest.mark.parametrize("put_back", [whole_folder, file_by_file, database_alone, lost_end])
@pytest.mark.parametrize("more", [5, 60])
async def test_a_position_of_a_history_that_is_gone_is_not_recovered(
    tmp_path: Path, put_back: PutBack, more: int
) -> None:
    """However many events have come since, under the same numbers; what both histories share is given as ever."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with run_server(data) as server:
        credential = await server.credential("anna")
        subscription = await (await server.client("anna")).subscribe("test.*")
        await announce(server, "anna", *range(10))
        shared: Position = (subscription.epoch, (await subscription.next()).seq)
    shutil.copytree(data, copy)
    async with run_server(data) as server:
        server.credentials["anna"] = credential
        subscription = await (await server.client("anna")).subscribe("test.*", since=shared)
        await announce(server, "anna", *range(10, 50))
        for _ in range(30):
            event = await subscription.next()
        lost: Position = (event.epoch, event.seq)
    put_back(copy, data)
    async with run_server(data) as server:
        server.credentials["anna"] = credential
        await announce(server, "anna", *range(100, 100 + more))
        assert await heard(server, lost) is None
        assert await heard(server, shared) == [*range(1, 10), *range(100, 100 + more)]
    # And the other way: what was put back is not in the history of the folder that was saved from before it.
    assert shared[0] != lost[0]


async def test_a_history_that_never_was_on_this_folder_is_unknown(tmp_path: Path) -> None:
    """Two servers that went on from the same copy do not take each other's positions."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    async with run_server(data) as server:
        credential = await server.credential("anna")
        await (await server.client("anna")).subscribe("test.*")
        await announce(server, "anna", 1)
    shutil.copytree(data, copy)
    positions = []
    for folder in (data, copy):
        async with run_server(folder) as server:
            server.credentials["anna"] = credential
            subscription = await (await server.client("anna")).subscribe("test.*")
            await announce(server, "anna", 2)
            event = await subscription.next()
            positions.append((event.epoch, event.seq))
    for folder, other in ((data, positions[1]), (copy, positions[0])):
        async with run_server(folder) as server:
            server.credentials["anna"] = credential
            assert await heard(server, other) is None


async def test_a_snapshot_of_a_running_machine_begins_an_epoch_of_its_own(server: Running) -> None:
    """When the clock was set, an open subscription hears on under a new epoch, and positions of both are good."""
    anna = await server.client("anna")
    subscription = await anna.subscribe("test.*")
    await announce(server, "anna", 1)
    before = await subscription.next()
    await server.services.events.begin_run()  # as `watch_clock` does
    await announce(server, "anna", 2)
    after = await subscription.next()
    assert before.epoch != after.epoch == subscription.epoch
    assert await heard(server, (before.epoch, before.seq)) == [2]
    assert await heard(server, (after.epoch, before.seq)) == [2]
    assert await heard(server, (before.epoch, after.seq)) is None
