"""The Python client when the other side closes: whoever waits is told at once, never after his time is up."""

import pytest
from websockets.asyncio.server import ServerConnection, serve

from rpcserver.client import Client, Disconnected
from tests.conftest import Running


async def test_a_server_that_closes_before_its_hello() -> None:
    """A connection that ends before the server has greeted is an error at once."""

    async def close(connection: ServerConnection) -> None:
        await connection.close(1012, "restart")

    async with serve(close, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        with pytest.raises(Disconnected, match="1012"):
            await Client(f"ws://127.0.0.1:{port}/").connect()


async def test_a_call_on_a_closing_connection(server: Running) -> None:
    """A call made after the close began is not sent, and says so."""
    client = await server.client("anna")
    assert client._socket is not None
    client._socket.protocol.send_close(1000)
    with pytest.raises(Disconnected):
        await client.call("server.ping")
    client._socket.send_data()
