"""Random changes of a world by the calls that people make, and all that is read of it, kept and unkept."""

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from core import (
    access,
    attribute_values,
    commands,
    groups,
    listing,
    presence,
    rules,
    scripts,
    sets,
    tokens,
    types,
    users,
)
from core.calls import Scene
from core.errors import CoreError
from core.users import User
from store import Tx

NAMES = ("anna", "bob", "carl")
Change = Callable[[Tx], Any]
HIDE: dict[str, Any] = {"deny": {"about": "level"}}
DECISIONS: tuple[dict[str, Any], ...] = (
    HIDE,
    {"deny": {"attribute": {"name": "level", "of": "caller", "is": 1}}},
    {"deny": {"count": {"type": "note", "minimum": 2}}},
    {"deny": {"all": [{"about": "level"}, {"attribute": {"name": "level", "of": "set", "is": 1}}]}},
)


class Walk:
    """What was made so far, and the next thing to do; `done` counts what succeeded."""

    def __init__(self, seed: int, people: dict[str, User]) -> None:
        self.pick = random.Random(seed)  # noqa: S311 (not for secrets)
        self.people = people
        self.places = [user.home_set_id for user in people.values()]
        self.things = [user.token_id for user in people.values()]
        self.rules: list[str] = []
        self.gifts: list[str] = []
        self.groups = [user.group_id for user in people.values()]
        self.types: list[str] = []
        self.scripts: list[str] = []
        self.made = 0
        self.own_things: list[str] = []
        self.own_places: list[str] = []
        self.done: Counter[str] = Counter()

    def step(self) -> tuple[str, Change]:
        """Return something to do, by its name."""
        name = self.pick.choice([name for name in dir(self) if name.startswith("do_")])
        who = self.pick.choice(NAMES)
        do = getattr(self, name)

        def change(tx: Tx) -> Any:
            mine = self.people[who].id
            own = tx.all("SELECT id FROM tokens WHERE owner_id = ? ORDER BY id DESC LIMIT 10", mine)
            self.own_things = [row[0] for row in own]
            own = tx.all("SELECT id FROM sets WHERE token_id IN (SELECT id FROM tokens WHERE owner_id = ?)", mine)
            self.own_places = [row[0] for row in own[-6:]]
            made = do(Scene(tx, self.people[who].id), who)
            return lambda: self._note(name, made)

        return name, change

    def _note(self, name: str, made: Any) -> None:
        self.done[name] += 1
        if made is not None:
            kept: list[str]
            kept, id = made
            kept.append(id)

    def _name(self) -> str:
        return f"it{self.pick.randrange(4)}"

    def _place(self) -> str:
        if self.own_places and self._often():
            return self.pick.choice(self.own_places)
        return self.pick.choice(self.places[-12:] + self.places[:3])

    def _thing(self) -> str:
        if self.own_things and self._often():
            return self.pick.choice(self.own_things)
        return self.pick.choice(self.things[-16:] + self.things[:3])

    def _standing(self, scene: Scene, kind: str) -> tuple[str, str]:
        rows = scene.tx.all(
            "SELECT m.set_id, m.token_id FROM members m JOIN sets s ON s.id = m.set_id"
            " JOIN tokens d ON d.id = s.token_id"
            " WHERE m.kind = ? AND d.owner_id = ? ORDER BY m.set_id DESC LIMIT 30",
            *(kind, scene.user_id),
        )
        found: tuple[str, str] = self.pick.choice(rows or [("", "")])
        return found

    def _user(self) -> User:
        return self.people[self.pick.choice(NAMES)]

    def _often(self) -> bool:
        return self.pick.random() < 0.7

    def do_make_place(self, scene: Scene, who: str) -> Any:
        policy = self.pick.choice(("readers", "members", "owner", "rule"))
        parent = self.pick.choice((self._place(), None))
        return self.places, sets.create(scene, self._name(), parent, is_public=self._often(), enter_policy=policy)

    def do_define(self, scene: Scene, who: str) -> Any:
        rows = scene.tx.all(
            "SELECT id FROM tokens t WHERE owner_id = ? AND type NOT IN ('set', 'user')"
            " AND id NOT IN (SELECT token_id FROM sets) ORDER BY id DESC LIMIT 9",
            scene.user_id,
        )
        thing = self.pick.choice(rows)[0] if rows else ""
        return self.places, sets.create(scene, None, self.pick.choice((self._place(), None)), token_id=thing)

    def do_make_token(self, scene: Scene, who: str) -> Any:
        type = self.pick.choice(("note", "command", *self.types[-3:]))
        values: dict[str, Any] = self.pick.choice(({}, {"level": 1}))
        if self.scripts and self.pick.random() < 0.3:
            values = {"sort" if type == "command" else "level": {"script": self.pick.choice(self.scripts)}}
        place = self.pick.choice((self._place(), self.people[who].home_set_id))
        made = tokens.create(scene, type, self._name(), values, self._often(), self._often(), place)
        return self.things, made

    def do_add(self, scene: Scene, who: str) -> Any:
        kind = self.pick.choice(("member", "gift"))
        sets.add_tokens(scene, self._place(), [self._thing()], kind)  # type: ignore[arg-type]

    def do_remove(self, scene: Scene, who: str) -> Any:
        place, thing = self._standing(scene, self.pick.choice(("member", "gift")))
        sets.remove_tokens(scene, place, [thing], is_forced=self._often())

    def do_truncate(self, scene: Scene, who: str) -> Any:
        sets.truncate(scene, self._place())

    def do_delete_token(self, scene: Scene, who: str) -> Any:
        tokens.delete(scene, self._thing())

    def do_delete_place(self, scene: Scene, who: str) -> Any:
        place = self._place()
        if place not in self.places[: len(NAMES)]:
            sets.delete(scene, place)

    def do_link(self, scene: Scene, who: str) -> Any:
        sets.link(scene, self._place(), self._place())

    def do_unlink(self, scene: Scene, who: str) -> Any:
        place, thing = self._standing(scene, "link")
        row = scene.tx.one("SELECT id FROM sets WHERE token_id = ?", thing)
        sets.unlink(scene, place, row[0] if row else "")

    def do_policy(self, scene: Scene, who: str) -> Any:
        sets.change_policy(scene, self._place(), self.pick.choice(("readers", "members", "owner", "rule")))

    def do_parent(self, scene: Scene, who: str) -> Any:
        sets.change_parent(scene, self._place(), self.pick.choice((self._place(), None)))

    def do_give_away(self, scene: Scene, who: str) -> Any:
        tokens.give(scene, self._thing(), self._user().id)

    def do_grant(self, scene: Scene, who: str) -> Any:
        access_: Any = self.pick.choice(("read", "write", None))
        definers = scene.tx.all("SELECT token_id FROM sets ORDER BY id DESC LIMIT 12")
        thing = self.pick.choice((self._thing(), *(row[0] for row in definers)))
        user_id = self._user().id
        given = scene.tx.all("SELECT token_id, user_id FROM grants ORDER BY token_id DESC, user_id LIMIT 9")
        if access_ is None and given:
            thing, user_id = self.pick.choice(given)
            owner = scene.tx.one("SELECT owner_id FROM tokens WHERE id = ?", thing)
            scene = Scene(scene.tx, owner[0] if owner else scene.user_id)
        tokens.grant(scene, thing, user_id, access_)

    def do_edit(self, scene: Scene, who: str) -> Any:
        value = self.pick.choice((1, 2, None))
        place = self.pick.choice((None, self._place()))
        attribute = self.pick.choice(("level", "description"))
        attribute_values.edit(scene, self._thing(), attribute, value if attribute == "level" else "text", place)

    def do_turn(self, scene: Scene, who: str) -> Any:
        place = self.pick.choice((None, self._place()))
        attribute_values.turn(scene, self._thing(), "level", self._often(), place)

    def do_answer(self, scene: Scene, who: str) -> Any:
        for token_id, text in scene.tx.all("SELECT id, attributes FROM tokens WHERE instr(attributes, 'script') > 0"):
            for name, value in json.loads(text).items():
                kept_as = attribute_values.Source.of(value).kept_as(name)
                attribute_values.keep_answer(scene, token_id, kept_as, self.pick.randrange(9))

    def do_rule(self, scene: Scene, who: str) -> Any:
        event = self.pick.choice(("attribute_reading", "attribute_reading", "set_entering"))
        decision = self.pick.choice(DECISIONS)
        kinds = [row[0] for row in scene.tx.all("SELECT name FROM types WHERE owner_id = ?", scene.user_id)]
        if kinds and self.pick.random() < 0.4:
            return self.rules, rules.create(scene, event, decision, type=self.pick.choice(kinds))
        rows = scene.tx.all(
            "SELECT id FROM tokens WHERE owner_id = ? AND instr(attributes, 'level') > 0", scene.user_id
        )
        thing = self.pick.choice(rows)[0] if rows else self._thing()
        return self.rules, rules.create(scene, event, decision, token_id=thing)

    def do_unrule(self, scene: Scene, who: str) -> Any:
        rows = scene.tx.all("SELECT id, owner_id FROM rules ORDER BY id")
        rule_id, owner_id = self.pick.choice(rows or [("", "")])
        rules.delete(Scene(scene.tx, owner_id), rule_id)

    def do_type(self, scene: Scene, who: str) -> Any:
        self.made += 1
        parents = self.pick.choice(([], self.types[-1:], ["command"]))
        groups_ = [self.pick.choice(self.groups)] if self.pick.random() < 0.4 else []
        attributes = {"level": {"value_type": "any", "default": 3, "read_groups": groups_}}
        name = f"kind{self.made}"
        return self.types, types.create(scene, name, parents, is_human=self._often(), attributes=attributes)

    def do_declare(self, scene: Scene, who: str) -> Any:
        types.declare(scene, self.pick.choice(self.types or [""]), f"a{self.pick.randrange(9)}", "any", default=1)

    def do_group(self, scene: Scene, who: str) -> Any:
        self.made += 1
        return self.groups, groups.create(scene, f"group{self.made}")

    def do_join(self, scene: Scene, who: str) -> Any:
        groups.add(scene, self.pick.choice(self.groups), self._user().id, self._often())

    def do_part(self, scene: Scene, who: str) -> Any:
        rows = scene.tx.all(
            "SELECT group_id, user_id FROM user_group_members m WHERE user_id NOT IN"
            " (SELECT u.id FROM users u WHERE u.group_id = m.group_id) ORDER BY group_id, user_id"
        )
        group_id, user_id = self.pick.choice(rows or [("", "")])
        with_it = self.people[who].group_id == group_id
        groups.remove(Scene(scene.tx, scene.user_id if with_it else user_id), group_id, user_id)

    def do_ungroup(self, scene: Scene, who: str) -> Any:
        groups.delete(scene, self.pick.choice(self.groups))

    def do_script(self, scene: Scene, who: str) -> Any:
        self.made += 1
        return self.scripts, scripts.create(scene, f"script{self.made}", "return 1")

    def do_gift(self, scene: Scene, who: str) -> Any:
        type = self.pick.choice(("note", "command"))
        return self.gifts, presence.create_gift(scene, self._place(), type, self._name())

    def do_ungift(self, scene: Scene, who: str) -> Any:
        presence.delete_gift(scene, self.pick.choice(self.gifts or [""]))

    def do_move(self, scene: Scene, who: str) -> Any:
        presence.leave(scene, f"s_{who}")
        presence.enter(scene, f"s_{who}", self._place())

    def do_leave(self, scene: Scene, who: str) -> Any:
        presence.leave(scene, f"s_{who}")

    def do_freeze(self, scene: Scene, who: str) -> Any:
        users.freeze(scene, self._user().id, is_frozen=self.pick.random() < 0.4)

    def looks(self) -> list[tuple[str, str]]:
        """Return who looks at which places next."""
        return [(name, self._place()) for name in NAMES]

    def look(self, tx: Tx, name: str, set_id: str) -> list[Any]:
        """Return all that is read of a place for a user."""
        user = self.people[name]
        scene = Scene(tx, user.id)

        def told(call: Any, *args: Any, **named: Any) -> Any:
            try:
                return call(scene, *args, **named)
            except CoreError as error:
                return type(error).__name__

        return [
            told(sets.show, set_id),
            *(told(listing.read, set_id, limit=n, given_to=s) for n in (2, 50) for s in (None, f"s_{name}")),
            told(listing.read, set_id, is_human=True, order="-added"),
            told(listing.read, set_id, kind="link"),
            told(listing.ways, set_id),
            told(commands.offered, set_id, user.home_set_id, session_id=f"s_{name}"),
            told(commands.offered, set_id, is_human=True, session_id=f"s_{name}"),
            told(sets.can_enter, set_id),
            told(sets.child, set_id, "it1"),
            *(told(users.read, other.id) for other in self.people.values()),
            access.find_place(tx, user.id, set_id),
        ]
