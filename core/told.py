"""Which changes of the world have reads look again that are kept; see `store.kept`.

Every written row tells the ids in it. What is known of a token is also looked for where it stands, as the set that it
defines, and as the user that it is: so a change of it tells these, too. A set that comes or goes changes how the token
that defines it is listed, wherever that stands. What few change and much hangs on tells all.
"""

from store import Told

_ALL = Told(("told('*')",))


# Once in a transaction: what has come to stand somewhere since, or to define a set or be a user, tells that itself.
_ROUND_TOKEN = """CASE WHEN is_first(ID) THEN
    (SELECT count(told('@' || m.set_id)) FROM main.members m WHERE m.token_id = ID)
    + (SELECT count(told(s.id, s.parent_id)) FROM main.sets s WHERE s.token_id = ID)
    + (SELECT count(told(u.id)) FROM main.users u WHERE u.token_id = ID) END"""
_BY_ID = _ROUND_TOKEN.replace("ID", "ROW.id")
_BY_TOKEN_ID = _ROUND_TOKEN.replace("ID", "ROW.token_id")

_HANGS_ON_TOKEN = Told(("told(ROW.token_id)", _BY_TOKEN_ID))

_STANDING = Told(("told('@' || ROW.set_id, '@' || ROW.token_id)",), prefix="@")  # who comes and goes changes no set

TOLD: dict[str, Told] = {
    "tokens": Told(("told(ROW.id)", _BY_ID)),
    "sets": Told(
        ("told(ROW.id, ROW.parent_id)", _BY_TOKEN_ID),
        columns=("id", "token_id", "parent_id", "enter_policy"),  # the next rank changes with the members
    ),
    "members": _STANDING,
    "commands": _STANDING,
    "grants": _HANGS_ON_TOKEN,
    "live_values": _HANGS_ON_TOKEN,
    "known_values": Told(("told(ROW.token_id)",)),
    "users": _ALL,
    "rules": _ALL,
    "types": _ALL,
    "type_ancestors": _ALL,
    "attributes": _ALL,
    "attribute_groups": _ALL,
    "user_groups": _ALL,
    "user_group_members": _ALL,
}
