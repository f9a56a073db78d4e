"""Walking against a plain-Python model: cd, back, forward, up and home, while sets close, move and go."""

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core import presence, sets, users
from core.calls import Core
from core.errors import CoreError, EnterRefused, NoWay, SetNotFound
from jobs.functions.session import Move, Moved, _move, cd
from rpcserver.sessions import rows as sessions
from rpcserver.sessions.rows import NewSession
from tests.core.world import World

MAX_HISTORY = 4
ANY_SET = st.integers(0, 6)


@dataclass
class Place:
    """A set of anna's: whether bob can read it, and whether it lets him in."""

    parent: str | None
    is_public: bool = True
    is_open: bool = True


class Walk(RuleBasedStateMachine):
    """Bob walks with one session through anna's sets."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World("anna", "bob")
        self.sets: dict[str, Place] = {}
        self.home = self.here = self.world.home("bob")
        self.back: list[str] = []
        self.forward: list[str] = []
        self.is_frozen = False
        self.made: list[str] = []
        tx = self.world.tx
        self.session = sessions.insert(tx, NewSession(self.world.users["bob"].id, "walk"), 10)
        sessions.fill(tx, self.session, self.home, "set_p", "set_d")
        self.world.do("bob", presence.enter, self.session, self.home)

    def teardown(self) -> None:
        """Close the database."""
        self.world.close()

    def may_read(self, set_id: str) -> bool:
        """Say whether bob can read a set."""
        return set_id == self.home or (set_id in self.sets and self.sets[set_id].is_public)

    def may_enter(self, set_id: str) -> bool:
        """Say whether it lets him in; home always does."""
        return set_id == self.home or (self.may_read(set_id) and self.sets[set_id].is_open and not self.is_frozen)

    def place(self, number: int) -> str:
        """Return a set by its number, gone or not."""
        return self.made[number % len(self.made)]

    @initialize(parents=st.lists(ANY_SET, min_size=3, max_size=5))
    def begin(self, parents: list[int]) -> None:
        """Anna has a few sets, most of them below another."""
        for parent in parents:
            self.make(parent)

    @rule(parent=ANY_SET)
    def make(self, parent: int) -> None:
        """Anna makes a set, below another where that is there."""
        above = self.place(parent) if self.made and self.place(parent) in self.sets else None
        set_id: str = self.world.do("anna", sets.create, f"set {len(self.made)}", above, is_public=True)
        self.made.append(set_id)
        self.sets[set_id] = Place(above)

    @rule(number=ANY_SET, is_public=st.booleans(), is_open=st.booleans(), is_gone=st.booleans())
    def change(self, number: int, is_public: bool, is_open: bool, is_gone: bool) -> None:
        """A set is hidden or shown, closed or opened; or it goes, whoever stands there, if it has no children."""
        set_id = self.place(number)
        place = self.sets.get(set_id)
        if place is None:
            return
        if is_gone and all(other.parent != set_id for other in self.sets.values()):
            self.world.do("anna", sets.delete, set_id)
            del self.sets[set_id]
            return
        place.is_public, place.is_open = is_public, is_open
        token = self.world.do("anna", sets.show, set_id).token_id
        self.world.tx.run("UPDATE tokens SET is_public = ? WHERE id = ?", int(is_public), token)
        self.world.do("anna", sets.change_policy, set_id, "readers" if is_open else "owner")

    @precondition(lambda self: self.here != self.home or self.is_frozen)
    @rule()
    def freeze(self) -> None:
        """Bob is frozen, or let go again."""
        self.is_frozen = not self.is_frozen
        self.world.do("anna", users.freeze, name="bob", is_frozen=self.is_frozen)

    @rule(number=ANY_SET)
    def go(self, number: int) -> None:
        """Into a set, if it is there, seen, and lets him in; where he is, nothing happens."""
        set_id = self.place(number)
        refused = None if self.may_enter(set_id) else EnterRefused if self.may_read(set_id) else SetNotFound
        is_there = set_id == self.here and self.may_read(set_id)
        self.walk(None if is_there else refused, set_id, "cd", targets=(set_id,))

    @precondition(lambda self: self.here != self.home)
    @rule()
    def go_home(self) -> None:
        """Home is always open."""
        self.walk(None, self.home, "home", is_home=True)

    @precondition(lambda self: self.here in self.sets)
    @rule()
    def go_up(self) -> None:
        """To the parent, where there is one."""
        if not self.may_read(self.here):
            return
        parent = self.sets[self.here].parent
        refused: type[CoreError] | None = NoWay
        if parent is not None:
            refused = None if self.may_enter(parent) else EnterRefused if self.may_read(parent) else SetNotFound
        self.walk(refused, parent, "up", is_up=True)

    @precondition(lambda self: self.back or self.forward)
    @rule(way=st.sampled_from(("back", "forward")))
    def return_(self, way: str) -> None:
        """To the newest entry that is elsewhere, still there, and lets him in; what is skipped is forgotten."""
        source = self.back if way == "back" else self.forward
        target = next((one for one in source[::-1] if one != self.here and self.may_enter(one)), None)
        self.walk(NoWay if target is None else None, target, way, targets=tuple(source[::-1]), direction=way)

    @precondition(lambda self: not self.may_read(self.here))
    @rule()
    def look(self) -> None:
        """Where he stands is gone or closed to his eyes: he finds himself at the newest place left to him, or home."""
        targets = (*self.back[::-1], self.home)
        target = next(one for one in targets if self.may_enter(one))
        self.walk(None, target, "cd", targets=targets, direction="back", is_forced=True)

    def walk(self, refused: type[CoreError] | None, target: str | None, way: str, **wish: object) -> None:
        """Make the move that the model says ends there, or is refused in one way and changes nothing."""
        data = Move(session_id=self.session, from_set_id=self.here, **wish)  # type: ignore[arg-type]
        try:
            self.world.do("bob", self.moved, data, way)
        except CoreError as error:
            assert refused is not None and type(error) is refused, f"{error!r} where {refused} was due"
            return
        assert refused is None, f"went where {refused} was due"
        assert target is not None
        if target == self.here:
            return
        if way in ("back", "forward"):
            source, other = (self.back, self.forward) if way == "back" else (self.forward, self.back)
            while source.pop() != target:
                pass
            other.append(self.here)
        else:
            self.back, self.forward = [*self.back, self.here][-MAX_HISTORY:], []
        self.here = target

    def moved(self, scene: object, data: Move, way: str) -> None:
        """Move as the job does, and keep it as the server does, in one transaction."""
        bob = self.world.scene("bob")
        session = sessions.find(bob.tx, self.session)
        assert session is not None
        moved: Moved = _move(Core(bob, "session.cd", cd.calls), bob.user_id, data)
        if moved.set_id != session.working_set_id:
            sessions.move(bob.tx, session, moved.set_id, way, MAX_HISTORY)

    @invariant()
    def rows_agree(self) -> None:
        """Working set, history and way forward are the model's."""
        session = sessions.find(self.world.tx, self.session)
        assert session is not None
        assert session.working_set_id == self.here
        assert (list(session.back), list(session.forward)) == (self.back, self.forward)

    @invariant()
    def he_stands_in_one_place(self) -> None:
        """His session is present where it stands, if that is there; home he always is, elsewhere only then."""
        rows = self.world.all("SELECT set_id FROM presence WHERE session_id = ?", self.session)
        is_there = self.here == self.home or self.here in self.sets
        assert rows == ([(self.here,)] if is_there else [])
        token = self.world.users["bob"].token_id
        around = {row[0] for row in self.world.all("SELECT set_id FROM members WHERE token_id = ?", token)}
        assert around == ({self.home, self.here} if is_there else {self.home})


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
