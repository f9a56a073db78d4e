"""docs/reference/worlds.md: its example works, and it names every member there is."""

import json
import re
from pathlib import Path

from core.remotes import Definition
from core.rules import _CHECKS, EVENTS
from jobs.functions import import_world
from tests.conftest import Running

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "worlds.md").read_text("utf-8")


async def test_the_example_is_imported(server: Running, tmp_path: Path) -> None:
    """The world on the page is made, and its command greets."""
    anna = await server.client("anna")
    path = tmp_path / "world.json"
    example = re.search(r"(?:^    .*\n|^\n)+", PAGE[PAGE.index('    {\n      "format"') :], re.M)
    assert example is not None
    path.write_text(json.dumps(json.loads(example[0])))
    made = await server.app.operate("operator.import", path=str(path), user="anna", format="json")
    listing = await anna.cd(set_id=made["sets"]["room"])
    greet = next(command for command in listing.commands or [] if command.name == "Greet me")
    assert (await anna.action(greet.id)).response["value"] == "hello, anna"


def test_every_member_is_named() -> None:
    """No member of the format, no event, no condition and no part of a definition is left out."""
    parts = [
        part
        for part in vars(import_world).values()
        if isinstance(part, type) and part.__module__ == import_world.__name__ and part is not import_world.ImportWorld
    ]
    names = {name for part in parts for name in getattr(part, "model_fields", {})}
    names |= set(EVENTS) | set(_CHECKS) | set(Definition.__slots__)
    assert sorted(name for name in names if not re.search(rf"[`\"]{name}[`\"]", PAGE)) == []
