"""Permission against a plain-Python model: a listing, a single read, a search and a decision all say the same."""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core import access, attribute_values, commands, groups, listing, sets, tokens, types
from core.errors import CoreError, NotWritable, OwnGroup, SetNotFound, TokenNotFound
from tests.core.world import World

USERS = ("anna", "bob", "carl")
ANY_USER = st.sampled_from(USERS)
NUMBER = st.integers(0, 7)
SAFE = "anna.safe"


class Permissions(RuleBasedStateMachine):
    """Three users with private and public sets and tokens, grants, their own groups, and a group for a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(*USERS)
        self.owner: dict[str, str] = {}
        self.public: set[str] = set()
        self.grants: dict[tuple[str, str], str] = {}
        self.own: dict[str, dict[str, bool]] = {user: {user: True} for user in USERS}
        self.staff = {"anna"}
        self.definer: dict[str, str] = {}
        self.members: dict[str, list[str]] = {}
        self.commands: set[str] = set()

    @initialize(whose=st.lists(st.tuples(ANY_USER, st.booleans()), min_size=2, max_size=4))
    def begin(self, whose: list[tuple[str, bool]]) -> None:
        """There are sets; anna's type has a secret that a group reads and writes, and a note that follows the token."""
        self.group = self.world.do("anna", groups.create, "staff")
        self.world.do("anna", types.create, "safe")
        of_group = {"read_groups": [self.group], "write_groups": [self.group]}
        self.world.do("anna", types.declare, SAFE, "secret", "number", **of_group)  # type: ignore[arg-type]
        self.world.do("anna", types.declare, SAFE, "note", "number")
        for user, is_public in whose:
            self.make_set(user, is_public)

    def teardown(self) -> None:
        """Close the database."""
        self.world.close()

    def id_of(self, user: str) -> str:
        """Return a user's id."""
        return self.world.users[user].id

    def may_read(self, user: str, token: str) -> bool:
        """Say what the model says of a token where it stands."""
        return token in self.public or self.is_let(user, token)

    def is_let(self, user: str, token: str) -> bool:
        """Say whether the user reads it whoever else does."""
        owner = self.owner[token]
        return user == owner or (token, user) in self.grants or user in self.own[owner]

    def may_write(self, user: str, token: str) -> bool:
        """Say whether the user writes it."""
        owner = self.owner[token]
        return user == owner or self.grants.get((token, user)) == "write" or self.own[owner].get(user, False)

    def place(self, number: int) -> str:
        """Return a set by its number."""
        return list(self.definer)[number % len(self.definer)]

    def thing(self, number: int) -> str:
        """Return a token by its number: one that stands about, or one that defines a set."""
        return list(self.owner)[number % len(self.owner)]

    def make_set(self, user: str, is_public: bool) -> None:
        """Make a set, with the token that defines it."""
        set_id = self.world.do(user, sets.create, f"set {len(self.definer)}", is_public=is_public)
        token = self.world.do(user, sets.show, set_id).token_id
        self.definer[set_id], self.members[set_id], self.owner[token] = token, [], user
        if is_public:
            self.public.add(token)

    @rule(user=ANY_USER, number=NUMBER, is_public=st.booleans(), type=st.sampled_from(("thing", "command", SAFE)))
    def make_token(self, user: str, number: int, is_public: bool, type: str) -> None:
        """A token, plain, a command, or with attributes of its own, stands in a set that its maker may write."""
        token = self.world.do(user, tokens.create, type, "x", {"note": 1} if type == SAFE else {}, is_public)
        if type == SAFE:
            values = {**access.readable_token(self.world.scene(user), token).values, "secret": 7}
            tokens.store_values(self.world.tx, token, values)
        self.owner[token] = user
        if is_public:
            self.public.add(token)
        if type == "command":
            self.commands.add(token)
        set_id = self.place(number)
        if self.may_write(user, self.definer[set_id]):
            self.world.do(user, sets.add_tokens, set_id, [token])
            self.members[set_id].append(token)

    @rule(token_number=NUMBER, set_number=NUMBER)
    def put(self, token_number: int, set_number: int) -> None:
        """The set's owner puts a token in that he may read."""
        token, set_id = self.thing(token_number), self.place(set_number)
        user = self.owner[self.definer[set_id]]
        if token in self.members[set_id] or token in self.definer.values():
            return
        expected = None if self.stands_before(user, token) else TokenNotFound
        if self.attempt(expected, user, sets.add_tokens, set_id, [token]):
            self.members[set_id].append(token)

    @rule(number=NUMBER, user=ANY_USER, access=st.sampled_from(("read", "write", None)))
    def grant(self, number: int, user: str, access: Any) -> None:
        """The owner lets somebody read or write it, or no more."""
        token = self.thing(number)
        self.world.do(self.owner[token], tokens.grant, token, self.id_of(user), access)
        self.grants.pop((token, user), None)
        if access is not None:
            self.grants[token, user] = access

    @rule(number=NUMBER, user=ANY_USER)
    def give(self, number: int, user: str) -> None:
        """It changes hands."""
        token = self.thing(number)
        self.world.do(self.owner[token], tokens.give, token, self.id_of(user))
        self.owner[token] = user
        self.grants.pop((token, user), None)

    @rule(whose=ANY_USER, user=ANY_USER, is_admin=st.booleans())
    def let_in(self, whose: str, user: str, is_admin: bool) -> None:
        """Somebody comes into a user's own group, whose user stays its admin."""
        group = self.world.users[whose].group_id
        expected = OwnGroup if whose == user and not is_admin else None
        if self.attempt(expected, whose, groups.add, group, self.id_of(user), is_admin):
            self.own[whose][user] = is_admin

    @rule(whose=ANY_USER, user=ANY_USER)
    def let_out(self, whose: str, user: str) -> None:
        """Somebody goes, by himself; its user never."""
        group = self.world.users[whose].group_id
        expected = OwnGroup if whose == user else None if user in self.own[whose] else CoreError
        if self.attempt(expected, user, groups.remove, group, self.id_of(user)):
            del self.own[whose][user]
        self.attempt(OwnGroup, whose, groups.delete, group)

    @rule(user=st.sampled_from(USERS[1:]))
    def hire(self, user: str) -> None:
        """Somebody comes to know the secret."""
        self.world.do("anna", groups.add, self.group, self.id_of(user))
        self.staff.add(user)

    @rule(user=st.sampled_from(USERS[1:]))
    def fire(self, user: str) -> None:
        """Somebody comes to know it no more."""
        if user in self.staff:
            self.world.do("anna", groups.remove, self.group, self.id_of(user))
            self.staff.discard(user)

    def attempt(self, expected: type[CoreError] | None, user: str, call: Any, *args: Any) -> bool:
        """Make a call that the model says is refused in one way, or not at all; tell whether it was made."""
        try:
            self.world.do(user, call, *args)
        except CoreError as error:
            assert expected is not None and isinstance(error, expected), f"{error!r} where {expected} was due"
            return False
        assert expected is None, f"allowed where {expected} was due"
        return True

    def stands_before(self, user: str, token: str) -> bool:
        """Say whether the user can read a token by its id alone: a public one, where he can read a set it stands in."""
        if self.is_let(user, token):
            return True
        around = [set_id for set_id, there in self.members.items() if token in there]
        is_place = token in self.definer.values()
        return token in self.public and (is_place or any(self.may_read(user, self.definer[one]) for one in around))

    @invariant()
    def sets_agree(self) -> None:
        """A set that cannot be read is not found and in no list; it is written by whom the model says."""
        for user in USERS:
            readable = {set_id for set_id, token in self.definer.items() if self.may_read(user, token)}
            writable = {set_id for set_id, token in self.definer.items() if self.may_write(user, token)}
            assert access.readable_among(self.world.tx, self.id_of(user), list(self.definer)) == readable
            for is_writable, expected in ((False, readable), (True, writable)):
                found, _ = self.world.do(user, listing.list_sets, is_writable=is_writable, limit=200)
                assert {place.id for place in found} & set(self.definer) == expected
            for set_id in self.definer:
                self.attempt(None if set_id in readable else SetNotFound, user, sets.show, set_id)
                refused = None if set_id in writable else NotWritable if set_id in readable else SetNotFound
                self.attempt(refused, user, access.writable_place, set_id)

    @invariant()
    def listings_agree(self) -> None:
        """A listing holds what a single read finds, with the same attributes, and leaves out the rest."""
        for user in USERS:
            for set_id, definer in self.definer.items():
                if not self.may_read(user, definer):
                    continue
                entries = {entry.id: entry for entry in self.world.do(user, listing.read, set_id, limit=200).entries}
                expected = {token for token in self.members[set_id] if self.may_read(user, token)}
                assert set(entries) == expected
                offered = self.world.do(user, commands.offered, set_id)
                assert {one.id for one in offered} == expected & self.commands
                for token in self.members[set_id]:
                    if token in expected:
                        assert self.world.do(user, listing.read_one, token, set_id) == entries[token]
                    else:
                        self.attempt(TokenNotFound, user, listing.read_one, token, set_id)

    @invariant()
    def tokens_agree(self) -> None:
        """By its id alone a token is read, and written, by whom the model says; of its attributes only what is his."""
        for user in USERS:
            for token, owner in self.owner.items():
                can_read = self.stands_before(user, token)
                self.attempt(None if can_read else TokenNotFound, user, access.readable_token, token)
                can_write = self.may_write(user, token)
                refused = None if can_write else NotWritable if can_read else TokenNotFound
                self.attempt(refused, user, access.writable_token, token)
                if can_read and access.readable_token(self.world.scene(user), token).type == SAFE:
                    knows = user == owner or user in self.staff
                    seen = self.world.do(user, listing.read_one, token).attributes
                    assert seen == ({"note": 1, "secret": 7} if knows else {"note": 1})
                    for name, may in (("note", can_write), ("secret", knows)):
                        assert self.world.do(user, attribute_values.permissions, token, name).can_write == may


TestPermissions = Permissions.TestCase
TestPermissions.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
