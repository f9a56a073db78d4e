"""Walk a tree: pages with a cursor, cd by path, back, a bookmark, and the notices of it all as they are pushed.

    python examples/02_walk.py ws://127.0.0.1:7717/ CREDENTIAL PATH

or with RPCSERVER_URL, RPCSERVER_CREDENTIAL and RPCSERVER_PATH in the environment. PATH is one of names below your
home, joined by `/`, such as what `rpcserver import FOLDER --user NAME` put there; without one the walk goes to where
your sessions keep what is theirs.
"""

import asyncio
import os
import sys

from rpcserver.client import CallError, Client, Subscription
from rpcserver.schemas.session import ListedToken


async def walk(url: str, credential: str, path: str) -> None:
    """Go to `path`, bookmark it, come back, and go there again by the bookmark."""
    async with Client(url, credential, name="02_walk") as client:
        notices = await client.subscribe("session.*")
        session_id = await client.create_session()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(show(notices))

            there = await client.cd(session_id, path=path)
            tokens = await everything(client, session_id)
            print(f"{there.current_set.set_name!r} holds {len(tokens)} tokens:")
            for token in tokens[:5]:
                print(f"  {token.name} ({token.type})")

            added = await client.action("bookmarks.add", session_id)
            print(f"bookmarked {added.response['bookmarks']['name']!r}")

            back = await client.cd(session_id, to="back")
            print(f"back in {back.current_set.set_name!r}")

            bookmark = next(item for item in back.commands or [] if item.id.startswith("bookmarks.go."))
            gone = await client.action(bookmark.id, session_id)
            print(f"{bookmark.name}: {gone.handled_by} moved the session")
            await client.action("bookmarks.remove", session_id, value=bookmark.id)

            await client.destroy_session(session_id)


async def everything(client: Client, session_id: str) -> list[ListedToken]:
    """Return all tokens of the set the session stands in, ten a page."""
    tokens: list[ListedToken] = []
    cursor = None
    while True:
        page = await client.ls(session_id, limit=10, sections=["contents"], **({"cursor": cursor} if cursor else {}))
        assert page.contents is not None
        tokens += page.contents.tokens
        cursor = page.contents.next_cursor
        if cursor is None:
            return tokens


async def show(notices: Subscription) -> None:
    """Print what is pushed until the session is gone."""
    async for event in notices:
        print(f"  pushed: {event.topic}")
        if event.topic == "session.destroyed":
            return


if __name__ == "__main__":
    names = ("RPCSERVER_URL", "RPCSERVER_CREDENTIAL", "RPCSERVER_PATH")
    given = dict(enumerate(sys.argv[1:]))
    url, credential, path = (given.get(number) or os.environ.get(name, "") for number, name in enumerate(names))
    if not url or not credential:
        sys.exit(f"usage: {sys.argv[0]} URL CREDENTIAL [PATH], or set {', '.join(names)}")
    try:
        asyncio.run(walk(url, credential, path or "sessions"))
    except* (CallError, OSError) as group:
        sys.exit(f"{url}: {group.exceptions[0]}")
