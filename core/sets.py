"""Sets: places, each defined by one token, with a parent, children and links."""

from dataclasses import dataclass, replace
from typing import Literal

from core import members, quota, tokens
from core.access import Place, find_place, readable_place, readable_token, rights, writable_place, writable_token
from core.calls import Scene, core_call, kept
from core.errors import EnterRefused, HomeStays, NotWritable, SetCycle, SetNotEmpty, SetNotFound, TokenInUse
from core.names import sort_key
from core.quota import PIECE, are_many
from core.rules import Coming, ask_set, guard_set, guard_token, of_set
from core.types import SYSTEM_MADE
from store import Tx, new_id

EnterPolicy = Literal["readers", "members", "owner", "rule"]


@core_call("core.set.create")
def create(
    scene: Scene,
    name: str | None = None,
    parent_id: str | None = None,
    *,
    token_id: str | None = None,
    is_public: bool = False,
    is_human: bool = True,
    enter_policy: EnterPolicy = "readers",
    links: list[str] | None = None,
) -> str:
    """Make a set and return its id; with a parent, it stands there as a child.

    Args:
        name: of a new token that defines it.
        token_id: a token of the caller's that is to define it instead; it may define no other.
        links: sets it links to from the beginning.
    """
    parent = writable_place(scene, parent_id) if parent_id is not None else None
    if token_id is not None:
        _check_definer(scene, token_id)
    if parent is not None:
        guard_set(scene, "child_adding", parent, token_id or "", Coming("set", {}) if token_id is None else None)
    if token_id is None:
        quota.require(scene.tx, scene.quota, scene.user_id, 1, 1)
        token_id = tokens.insert(scene.tx, "set", scene.user_id, name or "", {}, is_public=is_public, is_human=is_human)
    elif parent is not None and members.holds(scene.tx, parent.id, token_id, kind="member"):
        members.take(scene.tx, parent.id, token_id)
    set_id = define(scene.tx, token_id, parent_id, enter_policy)
    scene.say("set_created", set_id=set_id, token_id=token_id, place_id=parent_id)
    if parent is not None:
        scene.say("child_added", set_id=parent.id, token_id=token_id)
    for target_id in links or ():
        link(scene, set_id, target_id)
    return set_id


@core_call("core.set.show", is_reading=True)
def show(scene: Scene, set_id: str, *, wide: bool = False) -> Place:
    """Return the set, or raise SetNotFound: also when it is there and the caller cannot read it.

    Args:
        wide: also count what stands there, by kind, and say whether its policy lets the caller in.
    """
    place = readable_place(scene, set_id)
    if not wide:
        return place
    counts: dict[str, int] = dict(
        scene.tx.all("SELECT kind, count(*) FROM members WHERE set_id = ? GROUP BY kind", set_id)
    )
    return replace(place, counts=counts, can_enter=refusal(scene.tx, visitor(scene.tx, scene.user_id), place) is None)


@core_call("core.set.enter_policy")
def change_policy(scene: Scene, set_id: str, enter_policy: EnterPolicy) -> None:
    """Say who may enter: `readers` (whoever can read it), `members`, only its `owner`, or whom a `rule` lets."""
    writable_place(scene, set_id)
    scene.tx.run("UPDATE sets SET enter_policy = ? WHERE id = ?", enter_policy, set_id)


@core_call("core.set.parent")
def change_parent(scene: Scene, set_id: str, parent_id: str | None) -> None:
    """Move a set below another, or to the top. Raises SetCycle when it would become its own ancestor."""
    place = writable_place(scene, set_id)
    if parent_id is not None:
        parent = writable_place(scene, parent_id)
        above: str | None = parent_id
        while above is not None:
            if above == set_id:
                raise SetCycle(set_id)
            row = scene.tx.one("SELECT parent_id FROM sets WHERE id = ?", above)
            above = row[0] if row else None
        guard_set(scene, "child_adding", parent, place.token_id)
    if place.parent_id is not None:
        members.take(scene.tx, place.parent_id, place.token_id)
    scene.tx.run("UPDATE sets SET parent_id = ? WHERE id = ?", parent_id, set_id)
    if parent_id is not None:
        members.put(scene.tx, parent_id, place.token_id, "child")
        scene.say("child_added", set_id=parent_id, token_id=place.token_id)


@core_call("core.set.link.add")
def link(scene: Scene, set_id: str, target_id: str) -> None:
    """Link to another set, one way: the target's defining token stands in the linking set."""
    place, target = writable_place(scene, set_id), readable_place(scene, target_id)
    guard_set(scene, "link_creating", place, target.token_id)
    members.put(scene.tx, set_id, target.token_id, "link")
    scene.say("link_created", set_id=set_id, token_id=target.token_id)


@core_call("core.set.link.remove")
def unlink(scene: Scene, set_id: str, target_id: str) -> None:
    """Take a link away."""
    place, target = writable_place(scene, set_id), readable_place(scene, target_id)
    guard_set(scene, "link_destroying", place, target.token_id)
    scene.say("link_destroyed", set_id=set_id, token_id=target.token_id)
    members.take(scene.tx, set_id, target.token_id, kind="link")


def _delete_some(scene: Scene, set_id: str) -> bool:
    return _raze_some(scene, _deletable(scene, set_id))


@core_call("core.set.delete", before=_delete_some)
def delete(scene: Scene, set_id: str) -> None:
    """Delete a set, and the token made to define it; what stood in it stays where else it stands.

    One with more than 200 things is emptied before, piece by piece. Rules of its defining token for `set_destroying`
    may refuse, and no other rule is asked: nobody is kept in a set by its rules for leaving. Sessions that stand there
    find themselves relocated at their next call.
    Raises SetNotEmpty when it has child sets, HomeStays when it is somebody's home.
    """
    _raze(scene, _deletable(scene, set_id))


def _deletable(scene: Scene, set_id: str) -> Place:
    place = writable_place(scene, set_id)
    if scene.tx.one("SELECT 1 FROM users WHERE id = ? AND home_set_id = ?", place.owner_id, set_id):
        raise HomeStays(set_id)
    if scene.tx.one("SELECT 1 FROM sets WHERE parent_id = ?", set_id):
        raise SetNotEmpty(set_id, "child sets")
    guard_set(scene, "set_destroying", place, place.token_id)
    return place


def _discard_some(scene: Scene, set_id: str) -> bool:
    place = _discardable(scene, set_id)
    if are_many(scene.tx, "sets", "parent_id", set_id):
        _orphan(scene.tx, set_id, PIECE)
        return True
    if are_many(scene.tx, "members", "set_id", set_id):
        lost = members.only_here(scene.tx, set_id, scene.user_id, PIECE)
        for token_id in lost:
            tokens.erase(scene.tx, token_id)
        if lost:
            return True
    return _raze_some(scene, place)


@core_call("core.set.discard", before=_discard_some)
def discard(scene: Scene, set_id: str) -> None:
    """Delete a set of the caller's with all of theirs that stands nowhere else, and no rule refuses: its session ends.

    Sets below it stand by themselves afterwards. Raises SetNotFound or NotWritable.
    """
    place = _discardable(scene, set_id)
    _orphan(scene.tx, set_id, members.ALL)
    for token_id in members.only_here(scene.tx, set_id, scene.user_id):
        tokens.erase(scene.tx, token_id)
    _raze(scene, place)


def _discardable(scene: Scene, set_id: str) -> Place:
    place = readable_place(scene, set_id)
    if not place.rights.is_owner:
        raise NotWritable(set_id, place.name)
    return place


def _orphan(tx: Tx, set_id: str, limit: int) -> None:
    """Let some of the sets below one stand by themselves."""
    tx.run(
        "UPDATE sets SET parent_id = NULL WHERE id IN (SELECT id FROM sets WHERE parent_id = ? LIMIT ?)",
        *(set_id, limit),
    )


@core_call("core.set.tokens.add")
def add_tokens(
    scene: Scene,
    set_id: str,
    token_ids: list[str],
    kind: Literal["member", "gift"] = "member",
    *,
    is_sticky: bool = False,
) -> list[str]:
    """Put tokens the caller can read into a set they can write, and return their ids.

    Visitors come by going there, with their session, alone. Raises EventRefused when a rule of the set keeps one out:
    then none is put in.

    Args:
        is_sticky: their places are permanent: only the set's owner takes them out again, by force.
    """
    place = writable_place(scene, set_id)
    found = of_set(scene, "token_adding", place)
    added = [readable_token(scene, token_id) for token_id in token_ids]
    for token in added:
        ask_set(scene, place, found, token.id)  # for each anew: they may count what stands there
        members.put(scene.tx, set_id, token.id, kind, is_sticky=is_sticky)
        scene.say("token_added", set_id=set_id, token_id=token.id)
    return [token.id for token in added]


@core_call("core.set.tokens.remove")
def remove_tokens(scene: Scene, set_id: str, token_ids: list[str], *, is_forced: bool = False) -> list[str]:
    """Take tokens out of a set the caller can write, and return their ids; children and visitors have their own ways.

    Args:
        is_forced: the set's owner asks no rule, and takes permanent places too; but no user's out of their home.
    """
    place = writable_place(scene, set_id)
    if is_forced and not place.rights.is_owner:
        raise NotWritable(set_id, place.name)
    found = [] if is_forced else of_set(scene, "token_removing", place)
    for token_id in token_ids:
        ask_set(scene, place, found, token_id)
        members.take_out(scene.tx, set_id, token_id, is_forced=is_forced)
        scene.say("token_removed", set_id=set_id, token_id=token_id)
    return list(token_ids)


def _truncate_some(scene: Scene, set_id: str) -> bool:
    if not are_many(scene.tx, "members", "set_id", set_id):
        return False
    return _take_all(scene, set_id, PIECE) >= PIECE


@core_call("core.set.truncate", before=_truncate_some)
def truncate(scene: Scene, set_id: str) -> None:
    """Empty a set the caller may change; tokens of theirs that stood nowhere else are deleted with their place in it.

    Who visits stays, with what they were given, and so do tokens whose places are permanent. One with more than 200
    things is emptied piece by piece: what a rule refuses, or stops it, then leaves the pieces that are gone.
    Raises SetNotEmpty when it has child sets.
    """
    _take_all(scene, set_id, members.ALL)


def _take_all(scene: Scene, set_id: str, limit: int) -> int:
    """Take what can be out of a set, at most so many, and return how many there were."""
    place = writable_place(scene, set_id)
    if scene.tx.one("SELECT 1 FROM sets WHERE parent_id = ?", set_id):
        raise SetNotEmpty(set_id, "child sets")
    loose = members.loose(scene.tx, set_id, limit)
    ids = tuple(token_id for token_id, _ in loose)
    lost = set(members.only_here(scene.tx, set_id, scene.user_id, among=ids))
    for_tokens, for_links = (of_set(scene, event, place) for event in ("token_removing", "link_destroying"))
    for token_id, kind in loose:
        ask_set(scene, place, for_links if kind == "link" else for_tokens, token_id)
        if token_id in lost:
            tokens.delete(scene, token_id)
            continue
        members.take(scene.tx, set_id, token_id)
        scene.say("link_destroyed" if kind == "link" else "token_removed", set_id=set_id, token_id=token_id)
    return len(loose)


@core_call("core.set.child", is_reading=True)
@kept
def child(scene: Scene, set_id: str, name: str) -> str | None:
    """Return the child set of that name that the caller owns, or None."""
    readable_place(scene, set_id)
    # In this order, whatever the planner knows: the owner may have more tokens than there are children.
    row = scene.tx.one(
        "SELECT s.id FROM members m CROSS JOIN tokens t CROSS JOIN sets s WHERE m.set_id = ? AND m.sort = ?"
        " AND m.kind = 'child' AND t.id = m.token_id AND t.name = ? AND t.owner_id = ? AND s.token_id = t.id"
        " ORDER BY s.id LIMIT 1",
        *(set_id, sort_key(name), name, scene.user_id),
    )
    return row[0] if row else None


@core_call("core.set.resolve", is_reading=True)
def resolve(scene: Scene, set_id: str, path: str, home_set_id: str) -> str:
    """Follow a path of names joined by `/` and return the set it leads to.

    `..` is the parent, `.` stays, `~` (first) is home, a leading `/` begins at the topmost set above this one.
    A name means a child set, then a linked one; case counts only when two differ in nothing else.
    Raises SetNotFound, naming the part that led nowhere.
    """
    here = readable_place(scene, set_id)
    parts = path.split("/")
    if parts[0] == "~":
        here, parts = readable_place(scene, home_set_id), parts[1:]
    elif path.startswith("/"):
        while here.parent_id is not None and (above := find_place(scene.tx, scene.user_id, here.parent_id)):
            if not above.rights.can_read:
                break
            here = above
    for part in parts:
        if part in ("", "."):
            continue
        onward = here.parent_id if part == ".." else _named(scene, here.id, part)
        if onward is None:
            raise SetNotFound(part)
        here = readable_place(scene, onward)
    return here.id


def _named(scene: Scene, set_id: str, name: str) -> str | None:
    rows = scene.tx.all(
        "SELECT s.id, t.name, t.owner_id, t.is_public, t.id FROM members m JOIN sets s ON s.token_id = m.token_id"
        " JOIN tokens t ON t.id = m.token_id WHERE m.set_id = ? AND m.sort = ? AND m.kind IN ('child', 'link')"
        " ORDER BY m.kind, m.token_id",
        set_id,
        sort_key(name),
    )
    seen = [row for row in rows if rights(scene.tx, scene.user_id, row[4], row[2], row[3]).can_read]
    exact = [row for row in seen if row[1] == name]
    found = exact or seen
    return found[0][0] if found else None


@core_call("core.set.can_enter", is_reading=True)
@kept
def can_enter(scene: Scene, set_id: str) -> bool:
    """Tell whether the caller could enter now, without trying and without running any rule."""
    place = find_place(scene.tx, scene.user_id, set_id)
    if place is None or not place.rights.can_read:
        return False
    return refusal(scene.tx, visitor(scene.tx, scene.user_id), place) is None


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user as a set that they enter sees them."""

    token_id: str
    home_set_id: str
    is_frozen: int


def visitor(tx: Tx, user_id: str) -> Visitor | None:
    """Return the user as a visitor, None when there is no such user."""
    row = tx.one("SELECT token_id, home_set_id, is_frozen FROM users WHERE id = ?", user_id)
    return Visitor(*row) if row else None


def refusal(tx: Tx, user: Visitor | None, place: Place) -> EnterRefused | None:
    """Return why the user may not enter a set they can read, or None."""
    # Home stays open: a frozen user is stopped, not trapped where they stand.
    if user is None or (user.is_frozen and user.home_set_id != place.id):
        return EnterRefused(place.id, place.name, "frozen", "your account is frozen: ask the operator.")
    if place.rights.is_owner or place.enter_policy in ("readers", "rule"):
        return None
    if place.enter_policy == "members" and members.holds(tx, place.id, user.token_id, kind="member"):
        return None
    who = "its members" if place.enter_policy == "members" else "its owner"
    return EnterRefused(
        place.id, place.name, place.enter_policy, f"only {who} may enter. Ask {place.owner_name} to let you in."
    )


def define(tx: Tx, token_id: str, parent_id: str | None, enter_policy: str = "readers") -> str:
    """Make the token define a new set, and put it into the parent as a child."""
    set_id = new_id("set_")
    tx.run(
        "INSERT INTO sets (id, token_id, parent_id, enter_policy, next_rank, created_at) VALUES (?, ?, ?, ?, 1, ?)",
        *(set_id, token_id, parent_id, enter_policy, tx.clock.now_ms()),
    )
    if parent_id is not None:
        members.put(tx, parent_id, token_id, "child")
    return set_id


def _check_definer(scene: Scene, token_id: str) -> None:
    """Raise unless the token is the caller's to define a set by."""
    token = writable_token(scene, token_id)
    if token.type in SYSTEM_MADE or scene.tx.one("SELECT 1 FROM sets WHERE token_id = ?", token_id):
        raise TokenInUse(token_id)
    guard_token(scene, "set_creating", token)


def _raze_some(scene: Scene, place: Place) -> bool:
    """Take away some of what goes with a set, where that is much; False: it was not."""
    tx = scene.tx
    if are_many(tx, "members", "set_id", place.id) or are_many(tx, "presence", "set_id", place.id):
        given = members.gifts(tx, place.id, limit=PIECE)
        for token_id in given:
            tokens.erase(tx, token_id)
        if not given:
            members.clear(tx, place.id, PIECE)
        return True
    return place.type == "set" and tokens.thin(scene, place.token_id)


def _raze(scene: Scene, place: Place) -> None:
    scene.say("set_destroyed", set_id=place.id, token_id=place.token_id, place_id=place.parent_id)
    for token_id in members.gifts(scene.tx, place.id):
        tokens.erase(scene.tx, token_id)
    members.clear(scene.tx, place.id)
    scene.tx.run("DELETE FROM sets WHERE id = ?", place.id)
    if place.type == "set":
        tokens.erase(scene.tx, place.token_id)
    elif place.parent_id is not None:
        members.take(scene.tx, place.parent_id, place.token_id)
