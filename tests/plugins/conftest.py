"""A git server beside the server under test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rpcserver.client import Client
from tests.conftest import Running, run_server
from tests.plugins.git_server import GitServer, git_server


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[GitServer]:
    """A git server with the repository `acme/tool`."""
    with git_server(tmp_path / "hub") as served:
        served.repository("acme/tool").close()
        served.commit("acme/tool", {"README.md": "hello", "bin/run": (0o100755, "#!/bin/sh\n")})
        yield served


@pytest.fixture
async def allowed(tmp_path: Path, hub: GitServer) -> AsyncIterator[Running]:
    """A server whose operator allowed the git server."""
    async with run_server(tmp_path / "data", **hub.settings) as running:
        yield running


@pytest.fixture
async def carla(allowed: Running) -> Client:
    """A client of `allowed`."""
    return await allowed.client("carla")
