"""The world against a plain-Python model: whatever is done in whatever order, both hold the same."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from core import listing, members, presence, sets, tokens
from core.errors import AlreadyMember, CoreError, NotMember, SetCycle, SetNotEmpty, SetNotFound, TokenInUse
from tests.core.world import World

USERS = ("anna", "bob")


@dataclass
class Place:
    """A set of the model: token name -> how it stands there, and what it gives."""

    owner: str
    parent: str | None
    definer: str
    members: dict[str, str] = field(default_factory=dict)
    gifts: int = 0


class Model(RuleBasedStateMachine):
    """Sets, tokens, links, gifts and sessions of two users who may write each other's sets."""

    places = Bundle("places")
    things = Bundle("things")
    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*USERS)
        self.sets: dict[str, Place] = {}
        self.owners: dict[str, str] = {}
        self.standing: dict[str, tuple[str, str]] = {}
        self.number = 0

    def teardown(self) -> None:
        """Close the database."""
        self.world.close()

    def attempt(self, expected: type[CoreError] | None, user: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        """Make a call that the model says is refused in one way, or not at all."""
        try:
            answer = self.world.do(user, call, *args, **kwargs)
        except CoreError as error:
            assert expected is not None and isinstance(error, expected), f"{error!r} where {expected} was due"
            return None
        assert expected is None, f"allowed where {expected} was due"
        return answer

    def token_of(self, user: str) -> str:
        """Return a user's own token."""
        return self.world.users[user].token_id

    def above(self, set_id: str | None) -> list[str]:
        """Return a set and all above it."""
        found = []
        while set_id is not None:
            found.append(set_id)
            set_id = self.sets[set_id].parent
        return found

    @rule(target=places, user=st.sampled_from(USERS), parent=st.none() | places)
    def create_set(self, user: str, parent: str | None) -> str:
        """Anybody makes a set; it stands in its parent as a child."""
        if parent is not None and parent not in self.sets:
            parent = None
        if parent is not None:
            user = self.sets[parent].owner
        self.number += 1
        set_id: str = self.attempt(None, user, sets.create, f"set {self.number}", parent, is_public=True)
        definer = self.world.do(user, sets.show, set_id).token_id
        self.sets[set_id] = Place(user, parent, definer)
        self.owners[definer] = user
        if parent is not None:
            self.sets[parent].members[definer] = "child"
        return set_id

    @rule(set_id=places, parent=st.none() | places)
    def move_set(self, set_id: str, parent: str | None) -> None:
        """A set goes below another, never below itself."""
        place = self.sets.get(set_id)
        if place is None or (parent is not None and parent not in self.sets):
            return
        expected: type[CoreError] | None = None
        if parent is not None:
            if self.sets[parent].owner != place.owner:
                return
            if set_id in self.above(parent):
                expected = SetCycle
            elif place.definer in self.sets[parent].members and place.parent != parent:
                expected = AlreadyMember
        self.attempt(expected, place.owner, sets.change_parent, set_id, parent)
        if expected is None:
            if place.parent is not None:
                del self.sets[place.parent].members[place.definer]
            place.parent = parent
            if parent is not None:
                self.sets[parent].members[place.definer] = "child"

    @rule(set_id=places, other=places)
    def link(self, set_id: str, other: str) -> None:
        """A set links to another, once."""
        if set_id not in self.sets or other not in self.sets:
            return
        place, definer = self.sets[set_id], self.sets[other].definer
        expected = AlreadyMember if definer in place.members else None
        self.attempt(expected, place.owner, sets.link, set_id, other)
        place.members.setdefault(definer, "link")

    @rule(set_id=places, other=places)
    def unlink(self, set_id: str, other: str) -> None:
        """A link goes; a child stays."""
        if set_id not in self.sets or other not in self.sets:
            return
        place, definer = self.sets[set_id], self.sets[other].definer
        expected = None if place.members.get(definer) == "link" else NotMember
        self.attempt(expected, place.owner, sets.unlink, set_id, other)
        if expected is None:
            del place.members[definer]

    @rule(set_id=consumes(places))
    def delete_set(self, set_id: str) -> None:
        """A set without children goes, with its gifts and its visitors' places; other tokens stay."""
        place = self.sets.get(set_id)
        if place is None:
            return
        has_children = any(other.parent == set_id for other in self.sets.values())
        self.attempt(SetNotEmpty if has_children else None, place.owner, sets.delete, set_id)
        if has_children:
            return
        del self.sets[set_id]
        del self.owners[place.definer]
        for other in self.sets.values():
            other.members.pop(place.definer, None)
        self.standing = {session: there for session, there in self.standing.items() if there[1] != set_id}

    @rule(target=things, user=st.sampled_from(USERS))
    def create_token(self, user: str) -> str:
        """Anybody makes a token."""
        self.number += 1
        token_id: str = self.attempt(None, user, tokens.create, "thing", f"thing {self.number}")
        self.owners[token_id] = user
        return token_id

    @rule(set_id=places, token=things)
    def add_token(self, set_id: str, token: str) -> None:
        """A token stands in as many sets as one likes, in each once."""
        place = self.sets.get(set_id)
        if place is None or self.owners.get(token) != place.owner:
            return
        self.attempt(AlreadyMember if token in place.members else None, place.owner, sets.add_tokens, set_id, [token])
        place.members.setdefault(token, "member")

    @rule(set_id=places, token=things)
    def remove_token(self, set_id: str, token: str) -> None:
        """A token is taken out where it stands."""
        place = self.sets.get(set_id)
        if place is None:
            return
        expected = None if place.members.get(token) == "member" else NotMember
        self.attempt(expected, place.owner, sets.remove_tokens, set_id, [token])
        place.members.pop(token, None)

    @rule(token=things, user=st.sampled_from(USERS))
    def give_token(self, token: str, user: str) -> None:
        """A token changes hands; where it stands does not."""
        if token in self.owners:
            self.attempt(None, self.owners[token], tokens.give, token, self.world.users[user].id)
            self.owners[token] = user

    @rule(token=consumes(things))
    def delete_token(self, token: str) -> None:
        """A token goes from everywhere."""
        owner = self.owners.pop(token, None)
        if owner is None:
            return
        self.attempt(None, owner, tokens.delete, token)
        for place in self.sets.values():
            place.members.pop(token, None)

    @rule(set_id=places)
    def delete_definer(self, set_id: str) -> None:
        """What defines a set is never deleted from below."""
        if set_id in self.sets:
            self.attempt(TokenInUse, self.sets[set_id].owner, tokens.delete, self.sets[set_id].definer)

    @rule(set_id=places)
    def add_gift(self, set_id: str) -> None:
        """A set begins to give one thing more."""
        if set_id in self.sets:
            self.attempt(None, self.sets[set_id].owner, presence.create_gift, set_id, "thing", "gift")
            self.sets[set_id].gifts += 1

    @rule(target=sessions, user=st.sampled_from(USERS))
    def begin_session(self, user: str) -> str:
        """A session begins nowhere."""
        self.number += 1
        return f"{user} s_{self.number}"

    @rule(session=sessions, set_id=places)
    def enter(self, session: str, set_id: str) -> None:
        """A session goes from where it is to a set; it carries its gifts of the old one no further."""
        user = session.split()[0]
        gone = set_id not in self.sets
        if gone and session in self.standing:
            return
        if not gone:
            self.world.do(user, presence.leave, session)
        self.attempt(SetNotFound if gone else None, user, presence.enter, session, set_id)
        if not gone:
            self.standing[session] = (user, set_id)

    @rule(session=sessions)
    def end_session(self, session: str) -> None:
        """A session ends; the user's token goes with the last of his sessions there."""
        self.world.do(session.split()[0], presence.leave, session, is_last=True)
        self.standing.pop(session, None)

    def standing_in(self, set_id: str) -> dict[str, str]:
        """Return what the model says stands in a set, and as what."""
        visitors = {self.token_of(user): "visitor" for user, there in self.standing.values() if there == set_id}
        return {**self.sets[set_id].members, **visitors}

    @invariant()
    def members_agree(self) -> None:
        """Each set holds exactly what the model says: members, children, links, visitors."""
        for set_id in self.sets:
            rows = self.world.all("SELECT token_id, kind FROM members WHERE set_id = ? AND kind <> 'gift'", set_id)
            assert dict(rows) == self.standing_in(set_id)

    @invariant()
    def listings_agree(self) -> None:
        """A listing shows all of it with its relation, child and linked sets as tokens; the counts are those of it."""
        defined = {place.definer: set_id for set_id, place in self.sets.items()}
        for set_id, place in self.sets.items():
            expected = self.standing_in(set_id)
            entries = self.world.do(place.owner, listing.read, set_id, limit=200).entries
            shown = {entry.id: (entry.kind, entry.set_id) for entry in entries if entry.kind != "gift"}
            assert shown == {token: (kind, defined.get(token)) for token, kind in expected.items()}
            counts = self.world.do(place.owner, sets.show, set_id, wide=True).counts
            assert counts == Counter(entry.kind for entry in entries)
            for kind in ("child", "link"):
                of_kind = self.world.do(place.owner, listing.read, set_id, limit=200, kind=kind).entries
                assert {entry.id for entry in of_kind} == {token for token, one in expected.items() if one == kind}

    @invariant()
    def owners_agree(self) -> None:
        """Every token belongs to whom the model says."""
        rows = dict(self.world.all("SELECT id, owner_id FROM tokens"))
        for token, owner in self.owners.items():
            assert rows[token] == self.world.users[owner].id

    @invariant()
    def gifts_agree(self) -> None:
        """A session holds gifts of the set it stands in alone; nothing given is left over."""
        rows = self.world.all("SELECT session_id, set_id FROM members WHERE kind = 'gift'")
        assert {(session, set_id) for session, set_id in rows} <= {
            (s, there) for s, (_, there) in self.standing.items()
        }
        given = self.world.all("SELECT id FROM tokens WHERE name = 'gift'")
        assert len(given) == len(rows)

    @invariant()
    def nothing_dangles(self) -> None:
        """No row refers to one that is gone, and no cycle has formed."""
        assert self.world.all("PRAGMA foreign_key_check") == []
        for set_id in self.sets:
            assert len(self.above(set_id)) <= len(self.sets)
            assert members.holds(self.world.tx, self.sets[set_id].parent or set_id, self.sets[set_id].definer) == (
                self.sets[set_id].parent is not None or self.sets[set_id].definer in self.sets[set_id].members
            )


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=50, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
