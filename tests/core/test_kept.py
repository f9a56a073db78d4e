"""What is kept is what would be read: after every change, for every user, in every place. Source: store.kept."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from core import users
from core.calls import Scene
from core.errors import CoreError
from core.told import TOLD
from store import Store, Tx
from store.kept import Kept, Reading, triggers
from store.tx import SqliteTx
from tests.core.walk import NAMES, Walk
from tests.core.world import World

STEPS = 400


class Watched:
    """A world whose writes tell what they change, seen by reads that are kept and by others that are not."""

    def __init__(self, seed: int, without: str | None = None) -> None:
        self.world = World(*NAMES)
        self.kept = Kept(TOLD)
        self.kept.watch(self.world.connection)
        self.world.connection.set_authorizer(self.kept.look_at)
        if without is not None:
            self.world.connection.execute(f"DROP TRIGGER {without}")
        self.walk = Walk(seed, self.world.users)
        self.tried: Counter[str] = Counter()

    def change(self) -> str:
        """Make one change in a commit of its own, as the writer does."""
        name, change = self.walk.step()
        self.tried[name] += 1
        self.world.connection.execute("SAVEPOINT one")
        try:
            change(self.world.tx)()
        except CoreError:
            self.world.connection.execute("ROLLBACK TO one")
        self.kept.begin()
        self.world.connection.execute("RELEASE one")
        self.kept.end()
        return name

    def differs(self) -> str | None:
        """Return what is kept otherwise than it would be read, None when nothing is."""
        for name, place in self.walk.looks():
            unkept = self.walk.look(self.world.tx, name, place)
            for _ in range(2):  # an answer is noted when it is asked first, and kept when it is asked again
                seen = self.walk.look(Reading(self.world.connection, self.world.clock, self.kept), name, place)
                self.world.connection.execute("ROLLBACK") if self.world.connection.in_transaction else None
                if seen != unkept:
                    return f"{name}: {[pair for pair in zip(seen, unkept, strict=True) if pair[0] != pair[1]]}"
        return None

    def run(self, steps: int) -> str | None:
        """Go so many steps, and return what differed first."""
        for _ in range(steps):
            name = self.change()
            if (found := self.differs()) is not None:
                return f"after {name}, {found}"
        return None


def walked(seeds: range, steps: int) -> Counter[str]:
    """Walk for every seed, and return what succeeded how often."""
    done: Counter[str] = Counter()
    for seed in seeds:
        watched = Watched(seed)
        assert watched.run(steps) is None, f"seed {seed}"
        done += watched.walk.done
        watched.world.close()
    every = {name for name in dir(Walk) if name.startswith("do_")}
    assert every - set(done) == set(), "nothing of it ever succeeded"
    return done


def test_what_is_kept_is_what_would_be_read() -> None:
    """Random changes by every call, each followed by looks, kept and unkept."""
    walked(range(3), 250)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_is_kept_is_what_would_be_read_for_long() -> None:
    """The same, for longer."""
    walked(range(100, 120), STEPS)


# Triggers that may go unnoticed, and why.
NEEDLESS = {
    "told_tokens_insert": "nobody has asked for an id that there was not",
    "told_tokens_delete": "it stands nowhere any more, and no kept read asks for a token alone",
    "told_types_insert": "nothing is of a type that was just made",
    "told_types_delete": "no type is ever deleted",
    "told_types_update": "what nothing was made of yet is changed; what is looked at, never",
    "told_type_ancestors_insert": "as of types",
    "told_type_ancestors_update": "never changed",
    "told_type_ancestors_delete": "never deleted",
    "told_attributes_insert": "of a type that nothing was made of",
    "told_attributes_update": "never changed",
    "told_attributes_delete": "never deleted",
    "told_attribute_groups_insert": "as of attributes",
    "told_attribute_groups_update": "never changed",
    "told_attribute_groups_delete": "never deleted",
    "told_user_groups_insert": "nobody is in it yet",
    "told_user_groups_update": "never changed",
    "told_user_groups_delete": "its members go first, each told",
    "told_user_group_members_update": "taken out and put in again",
    "told_users_insert": "nobody has asked for an id that there was not",
    "told_users_delete": "never deleted",
    "told_rules_update": "never changed",
    "told_members_update": "never changed",
    "told_commands_insert": "told by the row of members that it goes with",
    "told_commands_update": "never changed",
    "told_commands_delete": "as its insertion",
    "told_grants_update": "taken back and given anew",
    "told_live_values_insert": "its token has a new revision",
    "told_live_values_update": "as its insertion",
    "told_live_values_delete": "they go with their token",
    "told_known_values_delete": "they go with their token, or are asked anew by a job",
}
NAMED = [statement.split()[3] for statement in triggers(TOLD)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("trigger", [name for name in NAMED if name not in NEEDLESS])
def test_no_trigger_could_be_left_out(trigger: str) -> None:
    """Without it, what is kept is soon not what would be read."""
    assert any(Watched(seed, trigger).run(STEPS) is not None for seed in range(12))


async def test_no_read_sees_two_states(tmp_path: Path) -> None:
    """While a thread commits change after change, what is taken from memory fits the snapshot beside it."""
    store = await Store.open(tmp_path / "data", synchronous="NORMAL", told=TOLD)
    people = {
        name: await store.write(lambda tx, name=name: users.create(Scene(tx, "operator"), name)) for name in NAMES
    }
    walk = Walk(1, people)
    compared = 0

    def both(tx: Tx) -> tuple[list[object], list[object]]:
        seen = [walk.look(tx, name, place) for name, place in looks]
        tx.one("SELECT 1 FROM tokens LIMIT 1")  # there is a snapshot now, if there was none
        plain = SqliteTx(tx._connection, store.clock)  # type: ignore[attr-defined]
        return seen, [walk.look(plain, name, place) for name, place in looks]

    for _ in range(100):
        writing = [asyncio.ensure_future(_tried(store, walk)) for _ in range(3)]
        looks = walk.looks()
        while not all(one.done() for one in writing):
            seen, unkept = store._near.read(both)
            assert seen == unkept
            compared += 1
            await asyncio.sleep(0)
    assert compared > 100
    assert len(store.kept) > 0
    await store.close()


async def _tried(store: Store, walk: Walk) -> None:
    _, change = walk.step()
    try:
        (await store.write(change))()
    except CoreError:
        return
