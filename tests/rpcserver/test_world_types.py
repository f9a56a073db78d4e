"""World files with types whose attributes have parents."""

import json
from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import Client
from tests.conftest import Running
from tests.rpcserver.bad_worlds import refused_world
from tests.rpcserver.test_worlds import changed

WARE = {"price": {"value_type": "number", "minimum": 0}}


def attribute(**options: Any) -> dict[str, Any]:
    """Return the small world with one attribute more of its type."""
    return changed("types/ware/attributes", {**WARE, "more": {"value_type": "number", **options}})


async def test_attributes_with_parents(server: Running, anna: Client, bob: Client, tmp_path: Path) -> None:
    """Parents come before children, in whatever order the file has them."""
    world: dict[str, Any] = {
        "format": "rpcserver.world/1",
        "name": "Inn",
        "groups": {"staff": {}},
        "scripts": {"now": {"text": "'noon'"}},
        "types": {
            "room": {
                "attributes": {
                    "fine": {"value_type": "number", "parent": "room.price", "default": 5},
                    "price": {"value_type": "number", "parent": "ware.price"},
                    "clock": {"value_type": "string", "default": {"script": "now"}},
                }
            },
            "ware": {"attributes": {"price": {"value_type": "number", "read_groups": ["staff"]}}},
        },
        "sets": {"room": {"name": "Room", "type": "room"}},
    }
    path = tmp_path / "world.json"
    path.write_text(json.dumps(world))
    made = (await server.app.operate("operator.import", path=str(path), user="anna", format="json"))["sets"]["room"]
    token = (await bob.call("core.set.show", set_id=made))["token_id"]
    seen = (await bob.call("core.token.read", token_id=token))["attributes"]
    assert ("fine" in seen, set(seen["clock"])) == (False, {"script"})
    assert (await anna.call("core.token.read", token_id=token))["attributes"]["fine"] == 5


BAD = [
    (attribute(parent="wear.price"), "types.ware.attributes.more.parent", "no type 'wear'"),
    (attribute(parent="ware.prize"), "types.ware.attributes.more.parent", "declares no 'prize'"),
    (attribute(parent="ware.more"), "types.ware.attributes.more.parent", "cycle"),
    (attribute(parent="x.y.z"), "types.ware.attributes.more", "No attribute"),
    (attribute(maximum="1"), "types.ware.attributes.more.maximum", "number"),
    (attribute(pattern="x"), "types.ware.attributes.more", "matches no pattern"),
    (attribute(default={"script": "no"}), "types.ware.attributes.more.default", "no script 'no'"),
]


@pytest.mark.parametrize(("world", "place", "reason"), BAD)
async def test_a_bad_type_is_told_with_its_place(
    server: Running, anna: Client, tmp_path: Path, world: dict[str, Any], place: str, reason: str
) -> None:
    """As every fault of a world file; nothing of it is made."""
    await refused_world(server, tmp_path, world, place, reason)
