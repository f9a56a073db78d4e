"""How a bad world file is refused: as a whole, with the place in the file."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import BadWorld
from tests.builders import dump
from tests.conftest import Running


async def refused_world(server: Running, folder: Path, world: dict[str, Any], place: str, reason: str) -> None:
    """Import a world for anna, and check what is told of it, and that nothing was made."""
    path = folder / "world.json"
    path.write_text(json.dumps(world))
    before = await dump(server.app.store)
    with pytest.raises(BadWorld) as caught:
        await server.app.import_world(path, "anna", None)
    assert (caught.value.place, reason in str(caught.value)) == (place, True), str(caught.value)
    assert await dump(server.app.store) == before
