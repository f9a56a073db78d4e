"""Declarations of attributes that make no sense, over a real socket."""

from typing import Any

from rpcserver.client import Client
from tests.rpcserver.test_places import refused


async def test_what_makes_no_sense_is_refused(anna: Client) -> None:
    """Each with its kind: unknown members, a parent that is not there or read by others, a pattern."""
    group = await anna.call("core.group.create", name="staff")
    kind = await anna.call("core.type.create", name="ware")
    await anna.call("core.attribute.create", type=kind, name="price", value_type="number", read_groups=[group])
    own = (await anna.call("core.user.read"))["group_id"]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"patern": "x"}, "INVALID_PARAMS"),
        ({"value_type": "words"}, "INVALID_PARAMS"),
        ({"parent": f"{kind}.nothing"}, "ATTRIBUTE_NOT_FOUND"),
        ({"parent": f"{kind}.price", "read_groups": [own]}, "BAD_ATTRIBUTE"),
        ({"pattern": "(?=x)", "value_type": "string"}, "BAD_VALUE"),
        ({"pattern": "(?:x{999}){999}", "value_type": "string"}, "BAD_VALUE"),
        ({"pattern": "x" * 201, "value_type": "string"}, "BAD_VALUE"),
    ]
    for options, expected in wrong:
        params = {"type": kind, "name": "more", "value_type": "number", **options}
        assert (await refused(anna, "core.attribute.create", **params)).kind == expected
