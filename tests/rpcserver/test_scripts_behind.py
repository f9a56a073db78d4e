"""Scripts behind attributes over the wire: what they are told, how long an answer holds, and where it runs."""

from pathlib import Path
from typing import Any

import pytest

from rpcserver.client import Client
from tests.clocks import HOUR_S, MONTH_S
from tests.conftest import Running, run_server
from tests.rpcserver.test_places import a_place, a_rule, refused


async def scripted(client: Client, text: str, *, name: str = "s", is_shared: bool = False, **options: Any) -> str:
    """Return a script of the client's."""
    made = await client.call("core.script.create", name=name, text=text, is_shared=is_shared, **options)
    return str(made)


class Things:
    """Public tokens of anna's in her hall."""

    def __init__(self, anna: Client, hall: str) -> None:
        self.anna, self.hall = anna, hall

    @classmethod
    async def open(cls, anna: Client) -> "Things":
        """Make the hall."""
        return cls(anna, (await a_place(anna, "hall"))[0])

    async def make(self, script: str, **attributes: Any) -> str:
        """Put a token into it whose attribute `x` the script answers."""
        held = {"x": {"script": script}, **attributes}
        token = await self.anna.call("core.token.create", type="thing", name="thing", attributes=held)
        await self.anna.call("core.set.tokens.add", set_id=self.hall, token_ids=[token])
        return str(token)

    async def read(self, client: Client, token: str) -> tuple[Any, str]:
        """Return value and state of x."""
        answer = await client.call("core.attribute.read", token_id=token, attribute="x", set_id=self.hall)
        return answer["value"], answer["state"]


async def test_a_script_is_told_what_it_may_know(anna: Client, bob: Client) -> None:
    """The value, the attributes, the earlier answer, owner, caller, constants and the time; not what it is itself."""
    things = await Things.open(anna)
    text = "[value, token, earlier, owner['name'], caller['name'], params, now > 1700000000000, name]"
    token = await things.make(await scripted(anna, text, extra_params={"rate": 3}), size=7)
    assert (await things.read(bob, token))[0] == [None, {"size": 7}, None, "anna", "bob", {"rate": 3}, True, "thing"]
    written = await anna.call("core.attribute.write", token_id=token, attribute="x", value=5)
    assert (written["value"][0], written["value"][4]) == (5, "anna")


async def test_what_a_script_changes_of_what_it_was_given_is_thrown_away(anna: Client) -> None:
    """Only what it remembers by is kept: the attributes, the constants and the people stay what they are."""
    things = await Things.open(anna)
    text = (
        "token['size'] = 9\nparams['rate'] = 9\nowner['name'] = 'mallory'\ncaller['id'] = 'x'\n"
        "state['n'] = state.get('n', 0) + 1\n[token, params, owner['name'], state['n']]"
    )
    script = await scripted(anna, text, extra_params={"rate": 3})
    token = await things.make(script, size=7)
    for n in (1, 2):
        assert (await things.read(anna, token))[0] == [{"size": 9}, {"rate": 9}, "mallory", n]
    assert (await anna.call("core.token.read", token_id=token))["attributes"]["size"] == 7
    kept = await anna.call("core.script.get", script_id=script)
    assert (kept["extra_params"], kept["state"]) == ({"rate": 3}, {"n": 2})


COUNT = "state['n'] = state.get('n', 0) + 1\n"


async def test_an_answer_holds_for_a_token_until_the_script_says(anna: Client, bob: Client) -> None:
    """With `good_until` in `local`: one answer for whoever asks about this token; without one each run is new."""
    things = await Things.open(anna)
    script = await scripted(anna, COUNT + "local['good_until'] = now + 60000 if token['hold'] else None\nstate['n']")
    held, free = await things.make(script, hold=True), await things.make(script, hold=False)
    assert [await things.read(anna, held), await things.read(bob, held)] == [(1, "ok"), (1, "cached")]
    assert [await things.read(anna, free), await things.read(anna, free)] == [(2, "ok"), (3, "ok")]
    other = await things.make(script, hold=True)
    assert [await things.read(bob, other), await things.read(bob, held)] == [(4, "ok"), (1, "cached")]


async def test_an_answer_may_hold_for_all_tokens(anna: Client) -> None:
    """With `good_until` in `state`, unless `local` says something."""
    things = await Things.open(anna)
    text = COUNT + "state['good_until'] = now + 60000\nif 'own' in token:\n  local['good_until'] = now - 1\nstate['n']"
    script = await scripted(anna, text)
    one, two, own = await things.make(script), await things.make(script), await things.make(script, own=1)
    assert [await things.read(anna, one), await things.read(anna, two)] == [(1, "ok"), (1, "cached")]
    assert [(await things.read(anna, own))[0] for _ in range(3)] == [1, 1, 1]  # it never ran, so it has said nothing
    await anna.call("core.script.edit", script_id=script, state={"n": 1})
    assert [(await things.read(anna, own))[0] for _ in range(2)] == [2, 3]


async def test_an_answer_ends_with_time_a_write_or_another_text(anna: Client) -> None:
    """What held no longer does; a write asks anew, and what it says holds for nobody's reading."""
    things = await Things.open(anna)
    script = await scripted(anna, COUNT + "local['good_until'] = now + token['ms']\nstate['n']")
    short, long = await things.make(script, ms=0), await things.make(script, ms=60000)
    assert [(await things.read(anna, short))[0] for _ in range(2)] == [1, 2]
    assert [(await things.read(anna, long))[0] for _ in range(2)] == [3, 3]
    written = await anna.call("core.attribute.write", token_id=long, attribute="x", value=1, set_id=things.hall)
    assert (written["value"], await things.read(anna, long), await things.read(anna, long)) == (
        4,
        (5, "ok"),
        (5, "cached"),
    )
    await anna.call("core.script.edit", script_id=script, text="'new'")
    assert await things.read(anna, long) == ("new", "ok")


@pytest.mark.parametrize("step_s", [-2 * HOUR_S, -2 * MONTH_S, 2 * HOUR_S])
async def test_an_answer_holds_no_longer_because_the_clock_is_set(server: Running, anna: Client, step_s: float) -> None:
    """Set back, it holds for as long as it was to hold; set past its moment, it holds no more."""
    things = await Things.open(anna)
    token = await things.make(await scripted(anna, COUNT + "local['good_until'] = now + 60000\nstate['n']"))
    cooling = await things.make(await scripted(anna, COUNT + "state['n']", name="cools", cool_down_s=60))
    assert [await things.read(anna, token), await things.read(anna, cooling)] == [(1, "ok"), (1, "ok")]
    server.clock.set_by(step_s)
    assert await things.read(anna, token) == ((1, "cached") if step_s < 0 else (2, "ok"))
    assert await things.read(anna, cooling) == (1, "cached")
    server.clock.sleep_for(61)
    assert await things.read(anna, token) == (2 if step_s < 0 else 3, "ok")
    assert await things.read(anna, cooling) == (2, "ok")


async def test_runs_too_near_together(anna: Client, bob: Client) -> None:
    """Who has an answer reads it again; who has none, and whoever writes, is told when to come back."""
    things = await Things.open(anna)
    token = await things.make(await scripted(anna, COUNT + "state['n']", cool_down_s=3600))
    assert [await things.read(anna, token), await things.read(anna, token)] == [(1, "ok"), (1, "cached")]
    error = await refused(bob, "core.attribute.read", token_id=token, attribute="x", set_id=things.hall)
    assert error.kind == "SCRIPT_LIMIT" and 3_500_000 < error.data["retry_after_ms"] <= 3_600_000
    write = await refused(anna, "core.attribute.write", token_id=token, attribute="x", value=1)
    assert write.kind == "SCRIPT_LIMIT"


async def test_a_script_is_tried_out_with_other_constants(anna: Client) -> None:
    """`params` stand in for its own; for a token of one's own it sees what that holds; nothing is remembered."""
    things = await Things.open(anna)
    script = await scripted(anna, "state['n'] = 1\n[params, token.get('size'), value]", extra_params={"rate": 3})
    token = await things.make(script, size=7)
    tried = await anna.call("core.script.run", script_id=script, token_id=token, value=2, params={"rate": 4})
    assert (tried["value"], tried["kept"]["state"]) == ([{"rate": 4}, 7, 2], {"n": 1})
    assert (await anna.call("core.script.run", script_id=script))["value"] == [{"rate": 3}, None, None]
    assert (await anna.call("core.script.get", script_id=script))["state"] == {}


async def test_a_shared_script_answers_wherever_it_stands(anna: Client, bob: Client) -> None:
    """A new text of its owner's runs from then on, in tokens and rules of others; retired, it goes on where it is."""
    script = await scripted(bob, "True", is_shared=True)
    things = await Things.open(anna)
    token = await things.make(script)
    vault, door = await a_place(anna, "vault")
    await a_rule(anna, door, {"allow": {"script": script}})
    assert await things.read(bob, token) == (True, "ok")
    await bob.call("core.script.edit", script_id=script, text="False")
    assert await things.read(bob, token) == (False, "ok")
    assert (await refused(bob, set_id=vault)).kind == "ENTER_REFUSED"
    await bob.call("core.script.edit", script_id=script, is_retired=True)
    attach = {"token_id": token, "attribute": "y", "value": {"script": script}}
    assert (await refused(anna, "core.token.edit_attribute", **attach)).kind == "SOURCE_CLOSED"
    assert await things.read(bob, token) == (False, "ok")


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"script_timeout_s": 0.05}, "while True: pass"),
        ({"script_memory_bytes": 2 * 1024 * 1024}, "x = [0] * 10**6\n1"),
        ({"script_depth": 10}, "def f(n):\n    return f(n - 1) if n else 0\nf(20)"),
        (
            {"script_calls": 3},
            "for n in range(10):\n    try:\n        open(str(n))\n    except Exception:\n        pass",
        ),
        ({"script_output_bytes": 100}, "'x' * 200"),
    ],
)
async def test_each_limit_is_the_setting_s(tmp_path: Path, setting: dict[str, Any], text: str) -> None:
    """One that the settings are too narrow for is stopped; with the usual ones it runs, but for the endless one."""
    kinds = []
    usual = {"script_timeout_s": 1.0}  # a busy machine takes its time
    for number, options in enumerate((setting, {})):
        async with run_server(tmp_path / str(number), **{**usual, **options}) as server:
            anna = await server.client("anna")
            script = await scripted(anna, text)
            if options or "True" in text:
                kinds.append((await refused(anna, "core.script.run", script_id=script)).kind)
            else:
                await anna.call("core.script.run", script_id=script)
    assert set(kinds) == {"SCRIPT_LIMIT"}
