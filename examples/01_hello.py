"""Connect, create a session, look around, destroy it.

    python examples/01_hello.py ws://127.0.0.1:7717/ CREDENTIAL

or with RPCSERVER_URL and RPCSERVER_CREDENTIAL in the environment. `rpcserver user add NAME` prints a credential.
"""

import asyncio
import os
import sys

from rpcserver.client import CallError, Client


async def hello(url: str, credential: str) -> None:
    """Say who we are, where we stand and what we can do there."""
    async with Client(url, credential) as client:
        me = await client.call("auth.whoami")
        print(f"connected as {me['name']}")

        session_id = await client.create_session()
        listing = await client.ls(session_id)
        print(f"standing in {listing.current_set.set_name!r}, which holds:")
        for token in listing.contents.tokens if listing.contents else []:
            print(f"  {token.name} ({token.type})")
        print("commands offered here:")
        for command in listing.commands or []:
            print(f"  {command.id}: {command.name}")

        await client.destroy_session(session_id)
        print("destroyed the session")


if __name__ == "__main__":
    names = ("RPCSERVER_URL", "RPCSERVER_CREDENTIAL")
    given = dict(enumerate(sys.argv[1:]))
    url, credential = (given.get(number) or os.environ.get(name, "") for number, name in enumerate(names))
    if not url or not credential:
        sys.exit(f"usage: {sys.argv[0]} URL CREDENTIAL, or set {' and '.join(names)}")
    try:
        asyncio.run(hello(url, credential))
    except (CallError, OSError) as error:
        sys.exit(f"{url}: {error}")
