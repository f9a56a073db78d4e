"""World files: the three of examples/worlds are walked, and a bad one leaves nothing."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import BadWorld
from jobs.functions.import_world import World, read
from rpcserver.client import CallError, Client
from rpcserver.errors import RpcError
from tests.conftest import Process, Running, run_cli
from tests.rpcserver.bad_worlds import refused_world

WORLDS = Path(__file__).parents[2] / "examples" / "worlds"


async def enter(server: Running, name: str, owner: Client) -> dict[str, str]:
    """Import a world for anna and return the ids of its sets."""
    made = await server.app.operate("operator.import", path=str(WORLDS / f"{name}.json"), user="anna", format="json")
    sets: dict[str, str] = made["sets"]
    return sets


async def refusal(client: Client, **params: Any) -> tuple[str | None, str]:
    """Return rule and message of a refused cd."""
    with pytest.raises(CallError) as caught:
        await client.cd(**params)
    return caught.value.data.get("rule"), caught.value.message


def command(listing: Any, name: str) -> str:
    """Return the id of a command by its name."""
    found = [one.id for one in listing.commands if one.name == name]
    assert len(found) == 1, [one.name for one in listing.commands]
    return str(found[0])


async def test_the_museum(server: Running, anna: Client, bob: Client) -> None:
    """The vault lets in who saw the gallery, one at a time, if the guard agrees; values are for staff."""
    sets = await enter(server, "museum", anna)
    hall = await bob.cd(set_id=sets["hall"])
    about = await bob.action(command(hall, "About the museum"))
    assert about.response["value"] == "About the museum: motto Look twice, since 1887"
    assert await refusal(bob, path="Vault") == ("gallery first", "'Vault' does not let you in: see the gallery first.")
    gallery = await bob.cd(path="Gallery")
    seen = {token.name: token.attributes for token in gallery.contents.tokens}
    assert seen["The night walk"] == {"artist": "unknown", "year": 1642, "inventory": "PA-0001"}
    assert "About the museum" in [one.name for one in gallery.commands or []]
    owners = {token.name: token.attributes for token in (await anna.ls(set_id=sets["gallery"])).contents.tokens}
    assert owners["The night walk"]["value"] == 1000000
    vault = await bob.cd(path="../Vault")
    assert "The blue stone" in [token.name for token in vault.contents.tokens]
    mallory = await server.client("mallory")
    await mallory.cd(set_id=sets["gallery"])
    assert (await refusal(mallory, set_id=sets["vault"]))[0] == "one at a time"
    await bob.cd(to="back")
    rule, message = await refusal(mallory, set_id=sets["vault"])
    assert (rule, "shakes his head at mallory" in message) == ("the guard", True)
    assert (await refusal(bob, set_id=sets["office"]))[0] == "staff only"
    assert (await anna.cd(set_id=sets["office"])).current_set.set_name == "Office"
    assert [token.name for token in (await bob.ls(set_id=sets["hall"], kind="link")).contents.tokens] == [
        "Museum garden"
    ]


async def test_the_shop(server: Running, anna: Client, bob: Client) -> None:
    """A basket for each visitor, gone from sight outside, as he left it on his return; paying empties it."""
    sets = await enter(server, "shop", anna)
    carl = await server.client("carl")
    shop = await bob.cd(set_id=sets["shop"])
    listed = await bob.action(command(shop, "Price list"))
    assert listed.response["value"] == {"teas": ["Darjeeling 7 EUR", "Rooibos 4 EUR", "Sencha 9 EUR"]}
    for tea in ("Sencha", "Rooibos"):
        put = await bob.action(command(shop, "Put into basket"), value=tea)
        assert put.response["written"] == f"{tea} is in your basket"
    assert "do not have" in (await bob.action(command(shop, "Put into basket"), value="Coffee")).response["written"]
    others = await carl.cd(set_id=sets["shop"])
    assert (await carl.action(command(others, "Look into basket"))).response["value"] == {"items": [], "total": 0}
    assert {one.name for one in shop.commands or []} >= {"Pay", "Look around"}
    street = await bob.cd(to="up")
    assert [one.name for one in street.commands or [] if one.source.startswith("set_")] == ["Look around"]
    shop = await bob.cd(to="back")
    basket = await bob.action(command(shop, "Look into basket"))
    assert basket.response["value"] == {"items": ["Sencha", "Rooibos"], "total": 13}
    assert (await bob.action(command(shop, "Pay"))).response["written"] == "thank you, bob"
    assert (await bob.action(command(shop, "Look into basket"))).response["value"]["total"] == 0
    people = await bob.ls(human=True)
    assert [token.attributes for token in people.contents.tokens if token.name == "Sencha"] == [{"price": 9}]
    with pytest.raises(CallError) as caught:
        stone = await anna.call("core.token.create", type="thing", name="stone")
        await anna.call("core.set.tokens.add", set_id=sets["shop"], token_ids=[stone])
    assert caught.value.kind == "EVENT_REFUSED"


async def test_the_help_desk(server: Running, anna: Client, bob: Client) -> None:
    """A question waits for the clerk; the asker finds the answer where he asked."""
    sets = await enter(server, "help-desk", anna)
    asked, answered = await anna.subscribe("remote.asked"), await bob.subscribe("remote.answered")
    desk = await bob.cd(set_id=sets["desk"])
    ask = command(desk, "Ask the clerk")
    assert (await bob.action(command(desk, "Opening hours"), value={"hour": 7})).response["written"] == (
        "nobody is here before eight"
    )
    assert (await bob.action(ask)).response == {"value": None, "state": "unknown", "written": None}
    pressed = await bob.action(ask, value="Where is the lift?")
    assert pressed.response["state"] == "pending"
    question = await asked.next()
    assert question.data["value"] == "Where is the lift?"
    with pytest.raises(CallError) as caught:
        await anna.call("ask.answer", ask_id=question.data["ask_id"], answer="")
    assert caught.value.kind == "BAD_ANSWER"
    await anna.call("ask.answer", ask_id=question.data["ask_id"], answer="Second left.")
    assert (await answered.next()).data["activity_id"] == pressed.response["activity_id"]
    assert (await bob.action(ask)).response["value"] == "Second left."


def test_every_world_is_walked() -> None:
    """Each file of examples/worlds is read, and a test above has its name."""
    names = sorted(path.stem for path in WORLDS.glob("*.json"))
    assert names == ["help-desk", "museum", "shop"]
    for name in names:
        assert isinstance(read(WORLDS / f"{name}.json"), World)
        assert f"test_the_{name.replace('-', '_')}" in globals()


A_URL = {"url": "https://api.example.com/"}
SMALL: dict[str, Any] = {
    "format": "rpcserver.world/1",
    "name": "Small",
    "types": {"ware": {"attributes": {"price": {"value_type": "number", "minimum": 0}}}},
    "scripts": {"yes": {"text": "True"}},
    "sets": {
        "top": {"name": "Top", "tokens": [{"name": "cup", "type": "ware", "attributes": {"price": 1}}]},
        "low": {"name": "Low", "parent": "top", "rules": [{"event": "set_entering", "allow": {"script": "yes"}}]},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the small world with something else at a place."""
    world = copy.deepcopy(SMALL)
    part: Any = world
    *way, last = path.split("/")
    for name in way:
        part = part[int(name)] if isinstance(part, list) else part[name]
    part[last] = value
    return world


BAD_WORLDS: list[tuple[Any, str, str]] = [
    (changed("sets/top/parent", "low"), "sets.low.parent", "top -> low -> top is a cycle"),
    (changed("types/ware/parents", ["ware"]), "types.ware.parents", "cycle"),
    (changed("sets/top/tokens/0/type", "wear"), "sets.top.tokens.0.type", "no type 'wear'"),
    (changed("types/ware/parents", ["nothing"]), "types.ware.parents.0", "no type"),
    (changed("sets/low/rules/0/allow", {"script": "no"}), "sets.low.rules.0.allow.script", "no script 'no'"),
    (changed("sets/low/rules/0/allow", {"group": "x"}), "sets.low.rules.0.allow.group", "no group 'x'"),
    (changed("sets/low/rules/0/allow", {"visited": ["x"]}), "sets.low.rules.0.allow.visited.0", "no set 'x'"),
    (changed("sets/low/rules/0/allow", {}), "sets.low.rules.0", "one key"),
    (changed("sets/low/rules/0/deny", {"type": "user"}), "sets.low.rules.0", "either allow or deny"),
    (changed("sets/low/rules/0/event", "sunrise"), "sets.low.rules.0", "no event"),
    (changed("scripts/yes/text", "x = ("), "scripts.yes.text", "line 1"),
    (changed("sets/top/tokens/0/attributes", {"price": -1}), "sets.top.tokens.0", "below 0"),
    (changed("sets/top/tokens/0/attributes", {"prize": 1}), "sets.top.tokens.0", "prize"),
    (
        changed("sets/top/tokens/0/attributes", {"price": {"script": "x"}}),
        "sets.top.tokens.0.attributes.price",
        "x",
    ),
    (changed("sets/low/parent", "nowhere"), "sets.low.parent", "no set 'nowhere'"),
    (changed("sets/low/links", ["nowhere"]), "sets.low.links.0", "no set"),
    (changed("sets/low/colour", "red"), "sets.low.colour", "Extra"),
    (changed("remotes", {"r": {"definition": {"url": "ftp://x/"}}}), "remotes.r.definition", "https"),
    (changed("remotes", {"r": {"definition": A_URL, "group": "x"}}), "remotes.r.group", "no group 'x'"),
    (changed("remotes", {"r": {"definition": {"color": "red"}}}), "remotes.r.definition.color", "nexpected"),
    (changed("remotes", {"r": {"kind": "manual", "definition": {}}}), "remotes.r.definition", "question"),
    (changed("scripts/yes/cool_down_s", -1), "scripts.yes", "cool_down_s"),
    (changed("groups", {"g": {"members": ["nobody"]}}), "groups.g", "nobody"),
    (changed("format", "rpcserver.world/9"), "format", "rpcserver.world/1"),
]


@pytest.mark.parametrize(("world", "place", "reason"), BAD_WORLDS)
async def test_a_bad_world_is_refused_as_a_whole(
    server: Running, anna: Client, tmp_path: Path, world: dict[str, Any], place: str, reason: str
) -> None:
    """The place in the file is told, and the database holds what it held."""
    await refused_world(server, tmp_path, world, place, reason)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"sets": {"a": {"name": "x"}, "a": {"name": "y"}}}', "sets.a"),
        ('{"format": \n [}', "line 2, column 3"),
        ("[" * 100_000, ""),
        ("[]", ""),
    ],
)
def test_what_is_no_document_is_refused(tmp_path: Path, text: str, place: str) -> None:
    """Two definers of one set, broken JSON, a bomb, another document."""
    path = tmp_path / "world.json"
    path.write_text(text)
    with pytest.raises(BadWorld) as caught:
        read(path)
    assert caught.value.place == place


async def test_a_world_stands_below_the_set_named_and_only_once(server: Running, anna: Client, tmp_path: Path) -> None:
    """`into` is where it begins; importing it again is refused, because its names are taken."""
    home = (await anna.call("core.user.read"))["home_set_id"]
    yard = await anna.call("core.set.create", name="yard", parent_id=home)
    path = tmp_path / "world.json"
    path.write_text(json.dumps(SMALL))
    made = await server.app.operate("operator.import", path=str(path), user="anna", into=yard, format="json")
    assert (await anna.call("core.set.show", set_id=made["sets"]["top"]))["parent_id"] == yard
    with pytest.raises(RpcError, match="taken"):
        await server.app.operate("operator.import", path=str(path), user="anna", into=yard, format="json")


async def test_remotes_and_scripts_of_a_world_have_their_policies(
    server: Running, anna: Client, bob: Client, tmp_path: Path
) -> None:
    """Groups by key, constants: as the calls of the core would have made them."""
    world = changed("groups", {"staff": {"members": ["bob"]}})
    world["remotes"] = {
        "old": {"definition": A_URL, "is_shared": True},
        "new": {"definition": {**A_URL, "send": "form", "retries": 2}, "group": "staff"},
    }
    world["scripts"]["rich"] = {"text": ["{'a': params['n']}"], "extra_params": {"n": 3}}
    path = tmp_path / "world.json"
    path.write_text(json.dumps(world))
    made = await server.app.operate("operator.import", path=str(path), user="anna", format="json")
    old, new = [await anna.call("core.remote.get", remote_id=made["remotes"][key]) for key in ("old", "new")]
    assert (old["is_shared"], new["group_id"]) == (True, made["groups"]["staff"])
    assert (new["definition"]["send"], new["definition"]["retries"]) == ("form", 2)
    assert (await anna.call("core.script.run", script_id=made["scripts"]["rich"]))["value"] == {"a": 3}
    for remote in made["remotes"].values():
        attributes = {"read": {"remote": remote}}
        await bob.call("core.token.create", type="thing", name="his", attributes=attributes)


def test_the_command_line_imports_a_world(serve: Callable[..., Process], tmp_path: Path) -> None:
    """Directly on the folder, and through the server that has it open; a bad one ends with status 1 and its place."""
    data, path = tmp_path / "data", tmp_path / "world.json"
    path.write_text(json.dumps(SMALL))
    arguments = ("import", str(path), "--format", "json", "--data", str(data), "--user")
    for user in ("anna", "bob"):
        assert run_cli("user", "add", user, "--data", str(data)).returncode == 0
    direct = run_cli(*arguments, "anna")
    told = json.loads(direct.stdout)
    assert set(told["sets"]) == {"top", "low"} and set(told) == {"name", "sets", "tokens", "types", "scripts"}
    serve(data)
    through = run_cli(*arguments, "bob")
    assert json.loads(through.stdout)["tokens"] == 1
    path.write_text(json.dumps(changed("sets/top/parent", "low")))
    bad = run_cli(*arguments, "anna")
    assert bad.returncode == 1 and "nothing of it was. At sets.low.parent: " in bad.stderr
    path.write_text(json.dumps(SMALL))
    taken = run_cli(*arguments, "anna")
    assert taken.returncode == 1 and taken.stderr.rstrip().endswith("is taken: choose another.")
    as_folder = run_cli("import", str(path), "--data", str(data), "--user", "anna")
    assert as_folder.returncode == 1 and "--format json" in as_folder.stderr
