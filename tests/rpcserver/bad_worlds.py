"""How a bad world file is refused: as a whole, with the place in the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from rpcserver.errors import RpcError
from tests.builders import dump
from tests.conftest import Running


async def refused_world(server: Running, folder: Path, world: dict[str, Any], place: str, reason: str) -> None:
    """Import a world for anna, and check what is told of it, and that nothing was made."""
    path = folder / "world.json"
    path.write_text(json.dumps(world))
    before = await dump(server.services.store)
    with pytest.raises(RpcError) as caught:
        await server.app.operate("operator.import", path=str(path), user="anna", format="json")
    assert (caught.value.kind, caught.value.details["place"]) == ("BAD_WORLD", place), str(caught.value)
    assert reason in str(caught.value)
    assert await dump(server.services.store) == before
