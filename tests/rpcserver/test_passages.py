"""Rules that ask outside: asked before the move begins, from the first move after a start on."""

from typing import Any

import pytest

from core import rules
from core.calls import Scene
from rpcserver.client import Client
from tests.builders import dump
from tests.conftest import Running
from tests.rpcserver.test_places import a_place, a_rule, refused


async def failed_jobs(server: Running) -> list[Any]:
    """Return every job that did not end well."""
    return await server.services.store.read(
        lambda tx: tx.all("SELECT function, state, error FROM jobs WHERE state <> 'succeeded'")
    )


async def a_door(client: Client, text: str) -> tuple[str, dict[str, Any]]:
    """Return a script and the decision that leaves it to the script who enters."""
    script = str(await client.call("core.script.create", name="door", text=text))
    return script, {"allow": {"script": script}}


@pytest.mark.parametrize("way", ["cd", "create"])
async def test_the_first_rule_that_asks_is_asked_at_once(server: Running, anna: Client, bob: Client, way: str) -> None:
    """First thing after a start: the rule is asked, nobody sees an error, and no job of a move has failed."""
    vault, token = await a_place(anna)
    _, decision = await a_door(anna, "caller['name'] == 'bob'")
    await a_rule(anna, token, decision)
    if way == "cd":
        assert (await bob.cd(set_id=vault)).current_set.id == vault
    else:
        session = await bob.create_session("inside", set_id=vault)
        assert (await bob.get_session(session)).working_set == vault
    assert await failed_jobs(server) == []
    error = await refused(anna, set_id=vault)
    assert error.kind == "ENTER_REFUSED"


@pytest.mark.parametrize("way", ["cd", "create"])
async def test_a_rule_that_comes_in_between_is_asked_and_the_move_made_again(
    server: Running, anna: Client, bob: Client, way: str
) -> None:
    """A rule nobody asked is noticed inside the transaction: nothing is kept of that, and the next try asks it."""
    vault, token = await a_place(anna)
    _, decision = await a_door(anna, "caller['name'] == 'bob'")
    me = (await anna.call("core.user.read"))["id"]
    await bob.ls()
    await anna.ls()

    def sneak(tx: Any) -> str:
        return rules.create(Scene(tx, me), "set_entering", decision, token_id=token)

    await server.services.store.write(sneak)
    assert not server.services.publisher.has_asking_rules
    if way == "cd":
        assert (await bob.cd(set_id=vault)).current_set.id == vault
    else:
        await bob.create_session("inside", set_id=vault)
    assert await failed_jobs(server) == []
    before = await dump(server.services.store)
    assert (await refused(anna, set_id=vault)).kind == "ENTER_REFUSED"
    assert (await refused(anna, "session.create", name="mine", set_id=vault)).kind == "ENTER_REFUSED"
    assert await dump(server.services.store) == before


async def test_a_rule_of_an_imported_world_is_asked_at_once(server: Running, anna: Client, tmp_path: Any) -> None:
    """Whoever makes the rule, a method or another job: the next move asks it."""
    world = tmp_path / "world.json"
    world.write_text(
        '{"format": "rpcserver.world/1", "name": "Small", "scripts": {"door": {"text": "False"}},'
        ' "sets": {"room": {"name": "Room", "rules": [{"event": "set_entering", "name": "door",'
        ' "allow": {"script": "door"}}]}}}'
    )
    made = await server.app.operate("operator.import", path=str(world), user="anna", format="json")
    assert server.services.publisher.has_asking_rules
    assert (await refused(anna, set_id=made["sets"]["room"])).data["rule"] == "door"
    assert [row[0] for row in await failed_jobs(server)] == ["session.cd"]  # the refusal itself
