"""The same calls, each package used as its documentation shows it: what one gets without giving it a thought.

websockets.serve with `async for`; jsonrpcserver's async_dispatch; pydantic models in and out; aiosqlite on one
connection, one commit per write (WAL, synchronous=FULL); structlog unconfigured, one line a call. The answers have the
shapes of `rpcserver.schemas.session`; the rows are those the server needs for them: sets, tokens, members, sessions,
history.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any
from uuid import uuid4

import aiosqlite
import structlog
from jsonrpcserver import Result, Success, async_dispatch, method
from websockets.asyncio.server import ServerConnection, serve

from rpcserver.schemas.session import CdParams, GetParams, ListedCommand, ListedToken, Listing, LsParams, SessionRecord

TOKENS, HISTORY = 50, 200
_SCHEMA = """
CREATE TABLE sets (id TEXT PRIMARY KEY, name TEXT NOT NULL, owner_id TEXT NOT NULL, parent_id TEXT);
CREATE INDEX sets_parent ON sets (parent_id);
CREATE TABLE tokens (id TEXT PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, attributes TEXT NOT NULL);
CREATE TABLE members (set_id TEXT NOT NULL, token_id TEXT NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (set_id, token_id));
CREATE TABLE sessions (id TEXT PRIMARY KEY, user_id TEXT NOT NULL, token_id TEXT NOT NULL, name TEXT NOT NULL,
    working_set_id TEXT NOT NULL, revision INTEGER NOT NULL, created_at BIGINT NOT NULL, last_used_at BIGINT NOT NULL);
CREATE TABLE history (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, set_id TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX history_session ON history (session_id, at);
"""
_DEPTH = f"(SELECT count(*) FROM (SELECT 1 FROM history WHERE session_id = sessions.id LIMIT {HISTORY}))"  # noqa: S608
_SESSION = f"SELECT *, {_DEPTH} AS depth FROM sessions WHERE id = ?"  # noqa: S608 (constants)
log = structlog.get_logger()
db: aiosqlite.Connection
writing = asyncio.Lock()  # one connection is one transaction: without it, calls would commit each other's halves


@method(name="session.get")
async def session_get(**params: Any) -> Result:
    """Return the session's record."""
    started = time.perf_counter()
    given = GetParams(**params)
    session = await _session(given.session_id)
    record = SessionRecord(
        session_id=session["id"],
        name=session["name"],
        state="active",
        context_name="default",
        is_default=False,
        core_user_id=session["user_id"],
        layer_user_id=session["user_id"],
        working_set=session["working_set_id"],
        command_pallet=None,
        session_data=None,
        interactive=True,
        params={},
        start=session["created_at"],
        end=None,
        revision=session["revision"],
        history_depth=session["depth"],
        options={},
        relocated_from=None,
        created_at=session["created_at"],
        last_used_at=session["last_used_at"],
    )
    log.info("call", method="session.get", ms=(time.perf_counter() - started) * 1000)
    return Success(record.model_dump())


@method(name="session.ls")
async def session_ls(**params: Any) -> Result:
    """List the working set with the commands offered there."""
    started = time.perf_counter()
    given = LsParams(**params)
    listing = await _listing(await _session(given.session_id), given.limit)
    log.info("call", method="session.ls", ms=(time.perf_counter() - started) * 1000)
    return Success(listing.model_dump())


@method(name="session.cd")
async def session_cd(**params: Any) -> Result:
    """Walk to another set and list it."""
    started = time.perf_counter()
    given = CdParams(**params)
    session = await _session(given.session_id)
    now = time.time_ns() // 1_000_000
    async with writing:
        here = (session["working_set_id"], session["token_id"])
        await db.execute("DELETE FROM members WHERE set_id = ? AND token_id = ?", here)
        await db.execute("INSERT INTO members VALUES (?, ?, 'visitor')", (given.set_id, session["token_id"]))
        await db.execute("INSERT INTO history VALUES (?, ?, ?, ?)", (str(uuid4()), session["id"], here[0], now))
        await db.execute(
            "UPDATE sessions SET working_set_id = ?, revision = revision + 1, last_used_at = ? WHERE id = ?",
            (given.set_id, now, session["id"]),
        )
        await db.commit()
    listing = await _listing(await _session(given.session_id), given.limit)
    log.info("call", method="session.cd", ms=(time.perf_counter() - started) * 1000)
    return Success(listing.model_dump())


async def _session(session_id: str | None) -> aiosqlite.Row:
    async with db.execute(_SESSION, (session_id,)) as cursor:
        row = await cursor.fetchone()
    assert row is not None
    return row


async def _listing(session: aiosqlite.Row, limit: int) -> Listing:
    set_id = session["working_set_id"]
    async with db.execute("SELECT * FROM sets WHERE id = ?", (set_id,)) as cursor:
        place = await cursor.fetchone()
    assert place is not None
    async with db.execute("SELECT * FROM sets WHERE id = ?", (place["parent_id"],)) as cursor:
        parent = await cursor.fetchone()
    async with db.execute(
        "SELECT t.* FROM members m JOIN tokens t ON t.id = m.token_id WHERE m.set_id = ? ORDER BY t.name LIMIT ?",
        (set_id, limit),
    ) as cursor:
        rows = await cursor.fetchall()
    owner = {"id": place["owner_id"], "name": place["owner_id"]}
    contents = {"tokens": [_token(session["id"], set_id, row) for row in rows], "next": None, "next_cursor": None}
    return Listing.model_validate(
        {
            "session_id": session["id"],
            "revision": session["revision"],
            "pallet_version": 1,
            "current_set": {
                "id": set_id,
                "set_name": place["name"],
                "set_author": owner,
                "parent": {"id": parent["id"], "set_name": parent["name"]} if parent else None,
                "can_write": True,
            },
            "contents": contents,
            "commands": await _commands(session, parent is not None),
        }
    )


async def _commands(session: aiosqlite.Row, has_parent: bool) -> list[ListedCommand]:
    async with db.execute("SELECT 1 FROM sets WHERE parent_id = ? LIMIT 1", (session["working_set_id"],)) as cursor:
        child = await cursor.fetchone()
    ways = [("back", session["depth"] > 0), ("up", has_parent), ("home", True), ("bookmark", True)]
    ways.append(("children", child is not None))
    return [
        ListedCommand.model_validate(
            {
                "id": f"navigation.{way}",
                "name": f"Go {way}",
                "description": f"to {way}",
                "source": "navigation",
                "accepts": None,
                "sort": 10,
                "call": {"method": "session.action", "params": {"session_id": session["id"], "token_id": way}},
            }
        )
        for way, is_open in ways
        if is_open
    ]


def _token(session_id: str, set_id: str, row: aiosqlite.Row) -> ListedToken:
    attributes = json.loads(row["attributes"])
    inspect = {"session_id": session_id, "set_id": set_id, "token_id": row["id"]}
    return ListedToken.model_validate(
        {
            "id": row["id"],
            "name": row["name"],
            "type": row["type"],
            "description": attributes.pop("description", None),
            "attributes": attributes,
            "links": [{"rel": "inspect", "method": "session.ls", "params": inspect}],
        }
    )


async def _handle(connection: ServerConnection) -> None:
    async for message in connection:
        if response := await async_dispatch(message):
            await connection.send(response)


async def _seed(sessions_of: list[int]) -> list[list[dict[str, str]]]:
    """Make the sets and sessions and return, for each connection, its sessions with the two sets they walk between."""
    await db.executescript(_SCHEMA)
    attributes = json.dumps(
        {"size": 120, "modified": 1_700_000_000_000, "media_type": "text/plain", "preview": "a" * 80}
    )
    seeded = []
    for number, count in enumerate(sessions_of):
        root, user_token = str(uuid4()), str(uuid4())
        await db.execute("INSERT INTO sets VALUES (?, 'root', ?, NULL)", (root, f"user{number}"))
        await db.execute("INSERT INTO tokens VALUES (?, ?, 'user', '{}')", (user_token, f"user{number}"))
        own = []
        for _ in range(count):
            session, places = str(uuid4()), [str(uuid4()), str(uuid4())]
            for place in places:
                await db.execute("INSERT INTO sets VALUES (?, 'place', ?, ?)", (place, f"user{number}", root))
                tokens = [(str(uuid4()), f"item-{item:02}", "file", attributes) for item in range(TOKENS - 1)]
                await db.executemany("INSERT INTO tokens VALUES (?, ?, ?, ?)", tokens)
                members = [(place, token[0], "member") for token in tokens]
                await db.executemany("INSERT INTO members VALUES (?, ?, ?)", members)
            await db.execute("INSERT INTO members VALUES (?, ?, 'visitor')", (places[0], user_token))
            row = (session, f"user{number}", user_token, "walk", places[0], 1, 0, 0)
            await db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            own.append({"id": session, "here": places[0], "there": places[1]})
        seeded.append(own)
    await db.commit()
    return seeded


async def main(path: str, sessions_of: list[int]) -> None:
    """Serve until killed; say where, and what there is, on standard output."""
    global db
    async with aiosqlite.connect(path) as db:
        db.row_factory = aiosqlite.Row
        await db.execute("PRAGMA journal_mode = WAL")
        await db.execute("PRAGMA synchronous = FULL")
        seeded = await _seed(sessions_of)
        async with serve(_handle, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            ready = {"url": f"ws://127.0.0.1:{port}/", "pid": os.getpid(), "sessions": seeded}
            print(json.dumps(ready), flush=True)
            # structlog writes to standard output by default; who started us reads no further.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
